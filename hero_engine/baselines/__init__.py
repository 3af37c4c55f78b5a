"""The methods that HERO is compared with: their settings, and one file a method."""
