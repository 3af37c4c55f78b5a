"""Which text encoder a file holds, by the names and shapes of its tensors.

Aether's prompt comes from T5 1.1 XXL. Others give embeddings that fit and mean something else, Llama and UMT5
with the very same width, so that only the header distinguishes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from .weights import some

Shapes = dict[str, tuple[int, ...]]

ADVICE = "use T5-XXL, such as t5xxl_fp16.safetensors, or a null-prompt file"

_T5_KEY = re.compile(
    r"(?P<prefix>(?!.*(decoder\.|\.lora_)).*?)(?P<stack>encoder\.)?block\.\d+\.layer\.\d\..+"
)
_SIZES = {512: "small", 768: "base", 1024: "large", 2048: "XL", 4096: "XXL"}
_BYTES = (384,)
_MT5_WORDS = range(250_000, 250_200)
_XXL_BLOCKS = 24
_PACKED = (".qweight", ".absmax", "__nf4", "__fp4")
"""Of GPTQ, AWQ and bitsandbytes."""
_TABLE = "shared.weight"
_ATTENTION = "layer.0.SelfAttention"
_FEED_FORWARD = "layer.1.DenseReluDense"


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder in a file.

    Attributes:
        name: as people know it, "T5-XXL" or "Llama 3".
        t5: whether it is a T5, of whatever size, that transformers' T5EncoderModel runs.
        prefix: before its keys, as in a checkpoint that holds several parts.
        stack: before "block."; "encoder.", or nothing.
        table: what the table of words is called, after the prefix.
    """

    name: str
    t5: bool = False
    prefix: str = ""
    stack: str = "encoder."
    table: str = _TABLE

    @property
    def has_usual_names(self) -> bool:
        """Whether a T5's tensors are called as in transformers, "shared.weight" and "encoder.block.0..."."""
        return (self.prefix, self.stack, self.table) == ("", "encoder.", _TABLE)

    def usual_name(self, key: str) -> str | None:
        """What transformers calls a tensor of this T5; None for one of another part of the file."""
        if not key.startswith(self.prefix):
            return None
        name = key.removeprefix(self.prefix)
        if name == self.table:
            return _TABLE
        in_stack = not self.stack and name.startswith(("block.", "final_layer_norm."))
        return f"encoder.{name}" if in_stack else name


def identify(shapes: Shapes) -> TextEncoder | None:
    """The text encoder in a file, None if there is none that is known.

    Args:
        shapes: of :func:`aether.model.weights.read_header`.
    """
    found = next((match for match in map(_T5_KEY.fullmatch, shapes) if match), None)
    if found is not None:
        return _t5(shapes, found["prefix"], found["stack"] or "")
    return next((TextEncoder(name) for name, is_it in _OTHERS if is_it(shapes)), None)


def require_t5_xxl(shapes: Shapes, where: object, field: str) -> TextEncoder:
    """The T5-XXL encoder in a file.

    Raises:
        InputError: it is another encoder, or lacks tensors.
    """
    encoder = identify(shapes)
    if encoder is None:
        example = some(sorted(shapes)[:1]) or "nothing"
        raise InputError(field, f"{where} holds no text encoder that is known (it has {example}); {ADVICE}")
    if encoder.name != "T5-XXL":
        raise InputError(
            field, f"{where} is {encoder.name}, not T5-XXL, which Aether was made with; {ADVICE}"
        )
    if packed := [key for key in sorted(shapes) if key.endswith(_PACKED)]:
        raise InputError(
            field, f"{where} is T5-XXL in a quantisation that is not read (it has {packed[0]}); {ADVICE}"
        )
    if missing := _missing(shapes, encoder):
        raise InputError(
            field, f"{where} is T5-XXL, but lacks {len(missing)} tensors: {some(missing)}; download it again"
        )
    return encoder


def _missing(shapes: Shapes, encoder: TextEncoder) -> list[str]:
    """Names of T5-XXL's tensors that are not in the file."""
    parts = [f"{_ATTENTION}.{matrix}" for matrix in "qkvo"] + ["layer.0.layer_norm", "layer.1.layer_norm"]
    parts += [f"{_FEED_FORWARD}.{matrix}" for matrix in ("wi_0", "wi_1", "wo")]
    names = [f"block.{block}.{part}" for block in range(_XXL_BLOCKS) for part in parts]
    names += [f"block.0.{_ATTENTION}.relative_attention_bias", "final_layer_norm"]
    keys = [f"{encoder.stack}{name}.weight" for name in names] + [encoder.table]
    return [key for key in keys if encoder.prefix + key not in shapes]


def _t5(shapes: Shapes, prefix: str, stack: str) -> TextEncoder:
    """A relative of T5, by its vocabulary, width and the form of its blocks."""
    table = next(
        (name for name in (_TABLE, f"{stack}embed_tokens.weight") if prefix + name in shapes), _TABLE
    )
    norms = f"{prefix}{stack}final_layer_norm.weight", f"{prefix}{stack}block.0.layer.0.layer_norm.weight"
    words = _side(shapes, 0, prefix + table)
    width = _side(shapes, 0, *norms) or _side(shapes, 1, prefix + table)
    size = f"-{_SIZES[width]}" if width in _SIZES else f" of width {width}" if width else ""
    if words in _BYTES:
        return TextEncoder(f"ByT5{size}")
    if words > 200_000:
        return TextEncoder(f"mT5{size}" if words in _MT5_WORDS else f"UMT5{size}")
    if f"{prefix}{stack}block.1.{_ATTENTION}.relative_attention_bias.weight" in shapes:
        return TextEncoder(f"Pile-T5{size}")
    if any(key.endswith(f"{_FEED_FORWARD}.wi.weight") for key in shapes):
        return TextEncoder("T5 1.0", t5=True, prefix=prefix, stack=stack, table=table)
    return TextEncoder(f"T5{size}", t5=True, prefix=prefix, stack=stack, table=table)


def _side(shapes: Shapes, axis: int, *names: str) -> int:
    """The size along an axis of the first of these that is there; 0 if none is."""
    shape = next((shapes[name] for name in names if name in shapes), ())
    return shape[axis] if len(shape) > axis else 0


def _with(*parts: str) -> Callable[[Shapes], bool]:
    """Whether each of the parts is in a key."""
    return lambda shapes: all(any(part in key for key in shapes) for part in parts)


def _language_model(*parts: str, words: range | None = None) -> Callable[[Shapes], bool]:
    """Whether it is a decoder in Llama's form, with these parts in its first block and so many words."""

    def is_it(shapes: Shapes) -> bool:
        first = {key.split("layers.0.", 1)[1] for key in shapes if "layers.0." in key}
        norms = {"input_layernorm.weight", "post_attention_layernorm.weight"}
        if not first & norms or not first.issuperset(parts):
            return False
        tables = [shape[0] for key, shape in shapes.items() if key.endswith("embed_tokens.weight") and shape]
        return words is None or any(table in words for table in tables)

    return is_it


_OTHERS: tuple[tuple[str, Callable[[Shapes], bool]], ...] = (
    # Names before the general ones that they would fit, too.
    ("T5Gemma", _with("encoder.layers.0.pre_self_attn_layernorm.weight")),
    ("Jina CLIP", _with("encoder.layers.0.mixer.Wqkv.weight")),
    ("GPT-OSS", _language_model("self_attn.sinks")),
    ("Gemma 3 or 4", _language_model("post_feedforward_layernorm.weight", "self_attn.q_norm.weight")),
    ("Gemma 2", _language_model("post_feedforward_layernorm.weight")),
    ("Qwen 3.5", _language_model("linear_attn.A_log")),
    ("Qwen 3", _language_model("self_attn.q_norm.weight")),
    ("Qwen 2.5", _language_model("self_attn.k_proj.bias")),
    ("Phi", _language_model("self_attn.qkv_proj.weight")),
    ("Gemma", _language_model(words=range(255_000, 263_000))),
    ("Llama 3", _language_model(words=range(128_256, 128_400))),
    ("Mistral", _language_model(words=range(131_072, 131_073))),
    ("a language model such as Llama", _language_model()),
    ("a checkpoint without T5-XXL", _with("model.diffusion_model.")),
    ("ChatGLM", _with("encoder.layers.0.self_attention.query_key_value.weight")),
    (
        "a CLIP vision model",
        lambda shapes: _with("vision_model.")(shapes) and not _with("text_model.")(shapes),
    ),
    ("CLIP-G", _with("text_model.encoder.layers.30.")),
    ("CLIP-H", _with("text_model.encoder.layers.22.")),
    ("CLIP-L", _with("text_model.encoder.layers.0.")),
    ("CLIP", _with("resblocks.0.ln_1.weight")),
    ("BERT", _with("encoder.layer.0.attention.self.query.weight")),
    ("a LoRA", lambda shapes: any(".lora_" in key for key in shapes)),
    ("a VAE", _with("decoder.conv_in")),
    ("a diffusion model", _with("transformer_blocks.0.")),
    ("a diffusion model", _with("double_blocks.0.")),
    ("a diffusion model", _with("blocks.0.self_attn.")),
    ("a diffusion model", _with("input_blocks.0.")),
)
