"""NCE, MIL-NCE and the pairwise sigmoid loss between two modalities of a batch.

Clip i has one embedding v_i and K candidates x_i1 .. x_iK, of which C_i are valid (none, for a clip without
text). V is the set of clips with at least one valid candidate, and s(v, x) = v · x / temperature. Then

    num_i = Σ_{l∈C_i} exp s(v_i, x_il)                the positives of clip i
    row_i = Σ_{j∈V} Σ_{l∈C_j} exp s(v_i, x_jl)        clip i against every candidate of the batch
    col_i = Σ_{j=1..B} Σ_{l∈C_i} exp s(v_j, x_il)     the candidates of clip i against every clip of the batch

and the loss, a mean over V, has one of three forms:

    joint         log(row_i + col_i) − log num_i
                  the released VATT code (`AsymmetricNCE`): the positives count twice, so the floor is ln 2
    joint_once    log(row_i + col_i − num_i) − log num_i
                  the VATT paper (arXiv 2104.11178), eq. 4–5
    separate      ½ (log row_i − log num_i) + ½ (log col_i − log num_i)
                  a softmax for each direction

row_i and col_i both contain num_i, so each form is a softplus of the log-ratio of negatives to positives:
with row and col summed over j ≠ i only, joint_once is log(1 + (row + col) / num). It is computed so, never by
subtraction.
A clip without text has no term of its own, yet its video is a negative for the candidates of the others.
"""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp

Form = Literal["joint_once", "joint", "separate"]

# Stands for log 0 at masked places. Being finite, it keeps every intermediate of the gradient finite as well,
# also where nothing is left to sum.
_LOG_ZERO = -1e30

# Accelerators round float32 products to fewer bits unless told not to; divided by a temperature it would show.
EXACT = {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}


def nce(
    z_a: jax.Array,
    z_b: jax.Array,
    *,
    mask: jax.Array | None = None,
    anchor_mask: jax.Array | None = None,
    temperature: float | jax.Array,
    form: Form,
) -> jax.Array:
    """Noise-contrastive estimation between paired embeddings: MIL-NCE with one candidate a clip.

    Args:
      z_a: [B E] unit-length embeddings, such as video.
      z_b: [B E] unit-length embeddings of the partner modality, such as audio.
      mask: [B], true where z_b[i] is there. What lies in a masked z_b[i] has no effect. None: all are there.
      anchor_mask: [B], true where z_a[i] is there, as for `mil_nce`.
      temperature: divides the cosine similarities (no unit). A float, or a scalar array if it is learned.
      form: which denominator; see the top of this file.

    Returns:
      float32 scalar (nats), the mean over clips with a partner; 0, with zero gradient, if there is none.

    Raises:
      ValueError: an unknown form, or shapes that do not fit.
    """
    if z_b.ndim != 2:
        raise ValueError(f"z_b has shape {z_b.shape}; nce takes [B E], mil_nce takes [B K E]")
    return mil_nce(
        z_a,
        z_b[:, None],
        candidate_mask=None if mask is None else mask[:, None],
        anchor_mask=anchor_mask,
        temperature=temperature,
        form=form,
    )


def mil_nce(
    z_v: jax.Array,
    z_t: jax.Array,
    *,
    candidate_mask: jax.Array | None = None,
    anchor_mask: jax.Array | None = None,
    temperature: float | jax.Array,
    form: Form,
) -> jax.Array:
    """Multiple-instance NCE: any of a clip's candidates may match it (Miech et al. 2020, arXiv 1912.06430).

    Args:
      z_v: [B E] unit-length embeddings, such as video.
      z_t: [B K E] unit-length embeddings of K candidates a clip, such as captions.
      candidate_mask: [B K], true where a candidate is there. What lies in a masked candidate, even NaN, has
        no effect and gets a zero gradient. None: all are there.
      anchor_mask: [B], true where z_v[i] is there. A masked clip takes no part, nor do its candidates. None: all are
        there.
      temperature: divides the cosine similarities (no unit). A float, or a scalar array if it is learned.
      form: which denominator; see the top of this file.

    Returns:
      float32 scalar (nats), the mean over clips with a candidate; 0, with zero gradient, if there is none.

    Raises:
      ValueError: an unknown form, or shapes that do not fit.
    """
    if form not in get_args(Form):
        raise ValueError(f"unknown form {form!r}; use one of {', '.join(get_args(Form))}")
    z_v, z_t, valid, anchors = _masked(z_v, z_t, candidate_mask, anchor_mask)
    temperature = jnp.asarray(temperature, jnp.float32)

    # Row i, column (j, l). Negatives of both directions lie off the diagonal blocks and in valid columns.
    similarity = _all_pairs(z_v, z_t) / temperature  # [B B*K]
    similarity = jnp.where(anchors[:, None] & valid.reshape(-1) & ~_same_clip(valid), similarity, _LOG_ZERO)
    row = jax.nn.logsumexp(similarity, axis=1)  # [B]
    col = jax.nn.logsumexp(similarity, axis=0).reshape(valid.shape)  # [B K]
    col = jax.nn.logsumexp(col, axis=1)  # [B]

    positive = jnp.einsum("be,bke->bk", z_v, z_t, **EXACT) / temperature
    num = jax.nn.logsumexp(jnp.where(valid, positive, _LOG_ZERO), axis=1)  # [B]

    if form == "joint":
        loss = jnp.logaddexp(jnp.logaddexp(row, col) - num, math.log(2))
    elif form == "joint_once":
        loss = jax.nn.softplus(jnp.logaddexp(row, col) - num)
    else:
        loss = (jax.nn.softplus(row - num) + jax.nn.softplus(col - num)) / 2
    clips = valid.any(axis=1)  # V
    return jnp.where(clips, loss, 0).sum() / jnp.maximum(clips.sum(), 1)


def sigmoid(
    z_a: jax.Array,
    z_b: jax.Array,
    *,
    mask: jax.Array | None = None,
    anchor_mask: jax.Array | None = None,
    scale: float | jax.Array,
    bias: float | jax.Array,
) -> jax.Array:
    """Pairwise sigmoid loss, with any number of candidates (SigLIP: Zhai et al. 2023, arXiv 2303.15343).

    Every pair of a clip i and a valid candidate of a clip j is a yes-or-no decision of its own with logit
    scale · v_i · x_jl + bias; yes where i = j. A clip without a candidate still decides on those of others.

    Args:
      z_a: [B E] unit-length embeddings, such as video.
      z_b: [B E], or [B K E] for K candidates a clip; unit-length embeddings of the partner modality.
      mask: [B], or [B K] beside [B K E], true where a candidate is there. What lies in a masked candidate,
        even NaN, has no effect and gets a zero gradient. None: all are there.
      anchor_mask: [B], true where z_a[i] is there, as for `mil_nce`.
      scale: multiplies the cosine similarities (an inverse temperature). SigLIP learns its log, from log 10.
      bias: added to the logits. SigLIP learns it, from -10, as nearly all pairs are negatives.

    Returns:
      float32 scalar (nats): the sum over pairs divided by the number of clips with a candidate, which is the
      loss of SigLIP where every clip has just one; 0, with zero gradient, if no clip has any.

    Raises:
      ValueError: shapes that do not fit.
    """
    if z_b.ndim == 2:
        z_b, mask = z_b[:, None], None if mask is None else mask[:, None]
    z_a, z_b, valid, anchors = _masked(z_a, z_b, mask, anchor_mask)
    scale, bias = jnp.asarray(scale, jnp.float32), jnp.asarray(bias, jnp.float32)
    logits = scale * _all_pairs(z_a, z_b) + bias  # [B B*K]
    loss = jax.nn.softplus(jnp.where(_same_clip(valid), -logits, logits))
    loss = jnp.where(anchors[:, None] & valid.reshape(-1), loss, 0).sum()
    return loss / jnp.maximum(valid.any(axis=1).sum(), 1)


def _masked(z_v: jax.Array, z_t: jax.Array, mask: jax.Array | None, anchor_mask: jax.Array | None):
    """Embeddings [B E] and candidates [B K E], zero where masked; the masks [B K] and [B]. Checks shapes."""
    if z_v.ndim != 2 or z_t.ndim != 3 or (z_v.shape[0], z_v.shape[1]) != (z_t.shape[0], z_t.shape[2]):
        raise ValueError(f"embeddings [B E] and candidates [B K E] have shapes {z_v.shape} and {z_t.shape}")
    valid = jnp.ones(z_t.shape[:2], bool) if mask is None else mask.astype(bool)
    if valid.shape != z_t.shape[:2]:
        raise ValueError(f"the mask is {valid.shape}; candidates {z_t.shape} need {z_t.shape[:2]}")
    anchors = jnp.ones(z_v.shape[:1], bool) if anchor_mask is None else anchor_mask.astype(bool)
    if anchors.shape != z_v.shape[:1]:
        raise ValueError(f"the anchor mask is {anchors.shape}; embeddings {z_v.shape} need {z_v.shape[:1]}")
    if anchor_mask is not None:
        z_v, valid = jnp.where(anchors[:, None], z_v, 0), valid & anchors[:, None]
    return z_v, jnp.where(valid[..., None], z_t, 0), valid, anchors


def _all_pairs(z_v: jax.Array, z_t: jax.Array) -> jax.Array:
    """Dot products of [B E] and [B K E] as a float32 matrix [B B*K]: a last axis as short as K pads badly."""
    return jnp.einsum("ie,ne->in", z_v, z_t.reshape(-1, z_t.shape[-1]), **EXACT)


def _same_clip(valid: jax.Array) -> jax.Array:
    """[B B*K], true where column (j, l) belongs to row i."""
    batch, candidates = valid.shape
    return jnp.arange(batch)[:, None] == jnp.arange(batch * candidates) // candidates
