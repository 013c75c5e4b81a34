"""Model FLOPs utilisation: the share of a device's peak that the model's own arithmetic reaches."""

from jax.sharding import Mesh

from vatt.config import Config

# Dense bfloat16 matrix products, FLOP/s a device, from the makers' data sheets.
PEAK = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "TPU v3": 61.5e12,  # a core, which is what jax calls a device
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


def utilisation_per_clip(cfg: Config, mesh: Mesh) -> float | None:
    """What to multiply clips a second by to get MFU in [0, 1]; None on a device whose peak is not known (a CPU).

    A training step counts as three forward passes; recomputation under remat is not counted, being no progress.
    """
    kind = mesh.devices.flat[0].device_kind
    peak = next((flops for name, flops in PEAK.items() if kind.startswith(name)), None)
    if peak is None:
        return None
    if kind.startswith("NVIDIA") and cfg.model.dtype == "float32":
        peak /= 2  # TF32, which is what jax makes of float32 products there; a TPU rounds them to bfloat16
    from vatt.describe import forward_flops

    return 3 * sum(forward_flops(cfg, train=True).values()) / (peak * mesh.size)
