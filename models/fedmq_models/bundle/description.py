"""A bundle as a person or a script reads it."""

from __future__ import annotations

from fedmq_models.bundle.reading import Bundle

LABELS_SHOWN = 12
SOURCE_SHOWN = ("model", "pretrained", "onnx", "space", "note", "parity")


def as_json(bundle: Bundle) -> dict[str, object]:
    """Everything but the arrays: the keys of `bundle.json`, where it lies, and how large its encoder is."""
    content = {"path": str(bundle.path), **bundle.as_json()}
    if bundle.encoder is not None:
        content["encoder"]["size_bytes"] = bundle.encoder_path.stat().st_size
    return content


def as_text(bundle: Bundle) -> str:
    """The same as lines of `name  value`."""
    shown = ", ".join(bundle.labels[:LABELS_SHOWN])
    more = len(bundle.labels) - LABELS_SHOWN
    times = f", multiplied by {bundle.scale:g}" if bundle.scale != 1 else ""
    rows = [
        ("bundle", f"{bundle.name} in {bundle.path}"),
        ("labels", f"{len(bundle.labels)}: {shown}" + (f" and {more} more" if more > 0 else "")),
        ("prompts", "; ".join(bundle.prompts) or "not known"),
        ("features", f"dim {bundle.dim}, logit scale {bundle.logit_scale:g}{times}"),
        ("feature space", bundle.feature_space),
    ]
    if bundle.encoder is None:
        rows.append(("encoder", "none: nodes bring features"))
    else:
        size_mb = bundle.encoder_path.stat().st_size / 1e6
        encoder = bundle.encoder
        rows.append(("encoder", f"{encoder.file}, {size_mb:.1f} MB, {encoder.precision}, output {encoder.output}"))
    if bundle.preprocess is not None:
        how = bundle.preprocess
        mean, std = (", ".join(f"{value:.4g}" for value in triple) for triple in (how.mean, how.std))
        rows.append(("pixels", f"{how.size} x {how.size}, {how.resize}, {how.interpolation}, mean {mean}, std {std}"))
    rows += [(key, _words(bundle.source[key])) for key in SOURCE_SHOWN if key in bundle.source]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(entry)}" for key, entry in value.items())
    return f"{value:.7g}" if isinstance(value, float) else str(value)
