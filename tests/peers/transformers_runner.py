"""Run the transformers library in its own environment: what a causal language model multiplies and keeps, counted.

Standard input has a configuration a line, {"model_type": ..., other keys}; standard output has a line for each: its
multiply-accumulates, the numbers that it keeps, and its parameters, or the error that stopped it. With --defaults, the
configuration of every class that the library ships.
"""

import dataclasses
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
from transformers_variants import variants  # noqa: E402

aten = torch.ops.aten
#: What hands on a weight as it is: its result is the weight still.
SAME = {aten.index.Tensor, aten.index_select.default, aten._to_copy.default, aten.clone.default, aten.copy.default,
        aten.repeat.default, aten.cat.default, aten.stack.default}  # fmt: skip
#: Products: the places of their operands.
MULTIPLY = {aten.mm.default: (0, 1), aten.bmm.default: (0, 1), aten.addmm.default: (1, 2), aten.baddbmm.default: (1, 2),
            aten.addbmm.default: (1, 2), aten.mv.default: (0, 1)}  # fmt: skip
#: What chooses experts, and what weighs those that are shared.
ROUTER = re.compile(r"router|(^|\.)(gate|wg|ffn_gate|moe_gate|shared_expert_gate)\.")
#: What a text model does not go through.
TOWERS = re.compile(r"embed_tokens_extend|image_encoder|vision_tower|audio_tower")
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
    # what is mapped to a composite class is built by the class of its text
    own = getattr(transformers, type(config).__name__.replace("TextConfig", "ForCausalLM"), None)
    kind = (
        transformers.AutoModelForCausalLM if type(config) in transformers.AutoModelForCausalLM._model_mapping else own
    )
    build = kind.from_config if kind is transformers.AutoModelForCausalLM else kind._from_config
    with torch.device(device):
        try:
            return build(config, attn_implementation="eager", experts_implementation="batched_mm").eval()
        except (ValueError, TypeError):  # a class that knows no other experts
            return build(config, attn_implementation="eager").eval()


def tensors(value):
    """Yield name and tensor of everything with two dimensions or more in an object's attributes."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if isinstance(value, torch.Tensor) and value.dim() > 1:
        yield "", value
    for key, one in items or ():
        for name, tensor in tensors(one):
            yield f"{key}{name}", tensor


def kept(out):
    """Return, layer by layer, (class, window, {name: shape}) of what a model hands on; nothing if it hands on nothing."""
    cache = next(
        (out[name] for name in ("past_key_values", "cache", "cache_params", "state") if out.get(name) is not None), None
    )
    if cache is None:
        return []
    layers = [
        (
            type(layer).__name__,
            getattr(layer, "sliding_window", None),
            {n: list(t.shape) for n, t in tensors(vars(layer))},
        )
        for layer in getattr(cache, "layers", [])
    ]
    beside = (
        {name: value for name, value in vars(cache).items() if name != "layers"}
        if hasattr(cache, "__dict__")
        else cache
    )
    if found := {name: list(one.shape) for name, one in tensors(beside)}:
        layers.append(("beside", None, found))
    return layers


def numbers(shapes):
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def stepped(model, tokens, device):
    """Return the multiply-accumulates of each parameter over so many tokens, and what is kept of them."""
    ids = torch.zeros(1, tokens, dtype=torch.long, device=device)
    with Counting(model) as count, torch.no_grad():
        out = model(input_ids=ids, use_cache=True)
    return count.macs, kept(out)


def of_a_token(few, more):
    """Return what each layer keeps of a token, its window, and what it keeps whatever their number."""
    found = []
    for (_, window, one), (_, _, other) in zip(few, more, strict=True):
        words = numbers(other) - numbers(one)
        found.append([words, window if words else None, numbers(one) - 2 * words])
    return found


def counted(config, device="meta"):
    """Return what is compared: of a token, the difference that a third one makes to two."""
    model = built(configured(config), device)
    parameters = {name: one for name, one in model.named_parameters() if not TOWERS.search(name)}
    told = {"parameters": sum(one.numel() for one in parameters.values())}
    told["shapes"] = {name: list(one.shape) for name, one in parameters.items()}
    head = model.get_output_embeddings()
    head = next((name for name, one in parameters.items() if head is not None and one is head.weight), None)
    try:
        (first, few), (second, more) = (stepped(model, tokens, device) for tokens in (2, 3))
    except Exception as error:  # noqa: BLE001 the library says it in many ways
        return told | {"no_forward": f"{type(error).__name__}: {error}"[:300]}
    told["macs"] = macs = {name: count - first[name] for name, count in second.items()}
    active = getattr(model.config, "num_experts_per_tok", None)
    for name, count in macs.items():  # one library class multiplies by all experts, most of which are given nothing
        shape = told["shapes"].get(name, [])
        if ".experts." in name and len(shape) == 3 and count == torch.Size(shape).numel() and active:
            macs[name] = count * active // shape[0]
    told["head"] = macs.pop(head, 0)
    told["projections"] = sum(n for name, n in macs.items() if not ROUTER.search(name))
    if more:
        told |= {"layers": of_a_token(few, more), "cache": [str(x) for x in few]}
    return told


def own_defaults(kind):
    """Return a configuration class's defaults as they stand there, before the class fills them in."""
    found = {}
    for one in dataclasses.fields(kind):
        value = one.default_factory() if one.default_factory is not dataclasses.MISSING else one.default
        found[one.name] = None if value is dataclasses.MISSING else value
    return found


def classes(keys):
    """Return, of each family, the defaults of those keys and the other names of them; of a composite one, its text."""
    table = {}
    for name in [*FAMILIES, "emu3_text_model"]:
        kind = transformers.CONFIG_MAPPING[name]
        names = {alias: real for alias, real in (kind.attribute_map or {}).items() if {alias, real} & keys}
        wanted = keys | set(names.values())
        defaults = {key: value for key, value in own_defaults(kind).items() if key in wanted}
        table[name] = {"defaults": defaults} | ({"names": names} if names else {})
        if "text_config" in (kind.sub_configs or {}):
            try:
                text = kind().get_text_config(decoder=True)
            except Exception:  # noqa: BLE001 one whose defaults make no configuration
                continue
            usual = type(text)().to_dict()
            own = {key: value for key, value in text.to_dict().items() if key in wanted and value != usual.get(key)}
            table[name] = {"text": text.model_type, "set": own}
    return table


def keys_of(family):
    kind = transformers.CONFIG_MAPPING[family]
    defaults = own_defaults(kind)
    return set(defaults), dict(kind.attribute_map or {}), {"pad_token_id": 0} if defaults.get("pad_token_id") else {}


def main():
    if "--classes" in sys.argv:
        keys = set(sys.argv[sys.argv.index("--classes") + 1 :])
        print(json.dumps({"version": transformers.__version__, "families": classes(keys)}))
        return
    device = "meta"
    if "--variants" in sys.argv:
        each, *names = sys.argv[sys.argv.index("--variants") + 1 :]
        lines = variants({name: keys_of(name) for name in names}, int(each), int(os.environ.get("SEED", "7")))
    elif "--defaults" in sys.argv:
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
