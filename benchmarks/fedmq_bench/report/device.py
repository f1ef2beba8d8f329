"""What a device's own work costs, in words."""

from collections.abc import Mapping

from fedmq_bench.report.line import Case, Line, Row, Target, ms, ratio


def _local(row: Row) -> Line:
    return Line(
        f"local epoch of {row['images']} images, {row['model']}",
        ms(row["cached_epoch_s"]),
        f"both encoders per batch {row['reference_epoch_s']:.1f} s",
        ratio(row),
        Target(1000.0, at_least=True).verdict(row["ratio"]),
    )


def _encoder(row: Row) -> Line:
    start = {"encode": "pixels in memory", "files": "JPEG files"}[row["stage"]]
    return Line(
        f"encode from {start}, {row['model']} {row['precision']} on {row['device']}",
        f"{row['onnx_images_per_s']:.1f} images/s",
        f"eager PyTorch {row['torch_images_per_s']:.1f} images/s",
        ratio(row),
    )


CASES: Mapping[str, Case] = {
    "local": Case(_local, ("model", "images")),
    "encoder": Case(_encoder, ("device", "stage", "model", "precision")),
}
