"""From conditions to a latent and to pictures: tasks, sampling, decoding."""
