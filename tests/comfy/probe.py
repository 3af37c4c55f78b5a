"""A custom node without nodes: tells over HTTP how many bytes of tensors the server holds."""

import gc

import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict = {}


@PromptServer.instance.routes.get("/tensor_bytes")
async def tensor_bytes(request: web.Request) -> web.Response:
    gc.collect()
    # By type: `isinstance` asks lazily imported modules for their class, which imports them.
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return web.json_response(sum(storages.values()))
