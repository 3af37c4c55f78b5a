"""What the methods do on a model: HERO, and those it is compared with. Needs torch."""
