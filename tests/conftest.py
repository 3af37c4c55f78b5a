"""Settings shared by all tests."""

import torch

# Small tensors: two threads cost more than they give, and results must not depend on the machine's cores.
torch.set_num_threads(1)
