"""Run the transformers library in its own environment: what a causal language model multiplies and keeps, counted.

Standard input has a configuration a line, {"model_type": ..., other keys}; standard output has a line for each: its
multiply-accumulates, the numbers that it keeps, and its parameters, or the error that stopped it. With --defaults, the
configuration of every class that the library ships.
"""

import json
import os
import re
import sys
import warnings
from collections import Counter

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
warnings.filterwarnings("ignore")
import torch  # noqa: E402
import transformers  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from transformers.models.auto import modeling_auto  # noqa: E402

aten = torch.ops.aten
#: What hands on a weight as it is: its result is the weight still.
SAME = {aten.index.Tensor, aten.index_select.default, aten._to_copy.default, aten.clone.default, aten.copy.default,
        aten.repeat.default, aten.cat.default, aten.stack.default}  # fmt: skip
#: Products: the places of their operands.
MULTIPLY = {aten.mm.default: (0, 1), aten.bmm.default: (0, 1), aten.addmm.default: (1, 2), aten.baddbmm.default: (1, 2),
            aten.addbmm.default: (1, 2), aten.mv.default: (0, 1)}  # fmt: skip
#: What chooses experts, and what weighs those that are shared.
ROUTER = re.compile(r"router|(^|\.)gate\.(weight|wg|proj)|shared_expert_gate|(^|\.)(gate|ffn_gate|moe_gate|wg)\.weight$")
FAMILIES = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


class Counting(TorchDispatchMode):
    """Counts the multiply-accumulates of each parameter, whatever it is reshaped or copied to on the way."""

    def __init__(self, model):
        super().__init__()
        self.macs, self.owner, self.kept = Counter(), {}, []
        for name, one in model.named_parameters():
            self.owner[one.untyped_storage()._cdata] = name

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        owners = [self.owner.get(a.untyped_storage()._cdata) for a in flat(args)]
        named = [name for name in owners if name]
        if func in MULTIPLY and named:
            first, second = (args[place] for place in MULTIPLY[func])
            both = [self.owner.get(one.untyped_storage()._cdata) for one in (first, second)]
            if any(both):
                self.macs[both[1] or both[0]] += first.numel() * (second.shape[-1] if second.dim() > 1 else 1)
        elif func in SAME and named and named[0] == owners[0] and isinstance(out, torch.Tensor):
            self.owner[out.untyped_storage()._cdata] = named[0]
            self.kept.append(out)
        return out


def flat(args):
    for one in args:
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, (list, tuple)):
            yield from flat(one)


def configured(config):
    """Return the configuration object; a composite one is that of its text model."""
    config = dict(config)
    made = transformers.CONFIG_MAPPING[config.pop("model_type")](**config)
    return made.get_text_config(decoder=True)


def built(config, device):
    for name in ("is_decoder", "use_cache"):
        if hasattr(config, name):
            setattr(config, name, True)
    kind = transformers.AutoModelForCausalLM
    with torch.device(device):
        for experts in ("batched_mm", None):
            try:
                model = kind.from_config(config, attn_implementation="eager", **{"experts_implementation": experts} if experts else {})
                return model.eval()
            except (ValueError, TypeError, KeyError) as error:
                last = error
    raise last


def kept(cache):
    """Return, layer by layer, (class, window, {name: shape}) of what a cache keeps."""
    layers = []
    for layer in getattr(cache, "layers", []):
        shapes = {}
        for name, value in vars(layer).items():
            many = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [("", value)]
            for key, one in many:
                if isinstance(one, torch.Tensor) and one.dim() > 1:
                    shapes[f"{name}{key}"] = list(one.shape)
        layers.append((type(layer).__name__, getattr(layer, "sliding_window", None), shapes))
    return layers


def numbers(shapes):
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def grown(model, device):
    """Return what each layer keeps of a token, (words, window), and what it keeps whatever their number."""
    runs = []
    for tokens in (2, 3):
        ids = torch.zeros(1, tokens, dtype=torch.long, device=device)
        with torch.no_grad():
            out = model(input_ids=ids, use_cache=True)
        cache = getattr(out, "past_key_values", None)
        if cache is None:
            cache = getattr(out, "cache_params", None)
        if cache is None:
            raise ValueError(f"keeps what is no cache: {list(out)}")
        runs.append(kept(cache))
    found = []
    for (kind, window, few), (_, _, more) in zip(*runs, strict=True):
        words = numbers(more) - numbers(few)
        found.append([words, window if words else None, numbers(few) - 2 * words])
    return found, [str(x) for x in runs[0]]


def counted(config, device="meta"):
    """Return what is compared."""
    settings = configured(config)
    model = built(settings, device)
    told = {"parameters": sum(one.numel() for one in model.parameters())}
    head = model.get_output_embeddings()
    head = None if head is None else head.weight
    names = {id(one): name for name, one in model.named_parameters()}
    told["shapes"] = {name: list(one.shape) for name, one in model.named_parameters()}
    try:
        with Counting(model) as count, torch.no_grad():
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), use_cache=True)
        macs = dict(count.macs)
        called = names.get(id(head))
        told["head"] = macs.pop(called, 0)
        told["macs"] = macs
        told["projections"] = sum(n for name, n in macs.items() if not ROUTER.search(name))
    except Exception as error:  # noqa: BLE001 the library says it in many ways
        told["no_forward"] = f"{type(error).__name__}: {error}"[:300]
        return told
    try:
        told["layers"], told["cache"] = grown(model, device)
    except Exception as error:  # noqa: BLE001
        told["no_cache"] = f"{type(error).__name__}: {error}"[:300]
    return told


def main():
    device = "meta"
    if "--cpu" in sys.argv:
        device = "cpu"
    if "--defaults" in sys.argv:
        lines = [{"model_type": name} for name in FAMILIES]
    else:
        lines = map(json.loads, sys.stdin)
    for config in lines:
        try:
            told = counted(config, device)
        except Exception as error:  # noqa: BLE001
            told = {"error": f"{type(error).__name__}: {error}"[:300]}
        try:
            told["config"] = json.loads(configured(config).to_json_string(use_diff=False))
        except Exception as error:  # noqa: BLE001
            told["no_config"] = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps({"asked": config, **told}), flush=True)


if __name__ == "__main__":
    main()
