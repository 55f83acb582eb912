"""What a network learns from scenes: every window's label, and the detector's own sums of evidence."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.data.scene_studio import IGNORED

SUMMED = 8  # inferences that the detector sums, one every two frames
PADDED_STRIDE = 4  # a network that pads sees every so manieth window of a scene, each one computed alone
WINDOW_SHARE, SUM_SHARE = 0.3, 1.0
SILENCE_OR_UNKNOWN, NO_WORD_WEIGHT = 0.3, 4.0
MARGIN = 2.0  # nats of mean evidence on either side of zero
SOFTNESS = 0.5  # of the maximum over the windows in which a word may be named


def scene_loss(network: nn.Module, x_nchw: Tensor, targets: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """(loss, share of windows with a chosen word that get its label) of scenes [n, 1, frames of a scene, channels] with
    targets int [n, windows]; see Scenes.

    Windows: cross entropy of the label; where no chosen word is, of silence and unknown together. Sums: the mean
    evidence (logit minus the log of the other labels' summed exponentials) of SUMMED inferences; its largest while a
    word may be named is to be above MARGIN, its largest anywhere else below -MARGIN.
    """
    logits, targets, summed = scene_logits(network, x_nchw, targets, frames)
    log_p = F.log_softmax(logits, dim=2)
    is_word, is_none = targets >= 2, (targets < 2) & (targets != IGNORED)
    named = -log_p.gather(2, targets.clamp(min=0)[:, :, None])[:, :, 0]
    none = -torch.logsumexp(log_p[:, :, :2], dim=2)
    told = is_none & (targets >= 0)
    windows = _mean(named, is_word) + SILENCE_OR_UNKNOWN * _mean(named, told) + NO_WORD_WEIGHT * _mean(none, is_none)
    value = WINDOW_SHARE * windows + SUM_SHARE * _sum_loss(logits, targets, summed)
    right = ((logits.argmax(dim=2) == targets) & is_word).sum() / is_word.sum().clamp(min=1)
    return value, right


def scene_logits(network: nn.Module, x_nchw: Tensor, targets: Tensor, frames: int) -> tuple[Tensor, Tensor, int]:
    """Logits [n, windows, labels], the targets of these windows, and how many of them the detector's sum spans."""
    if network.streams:
        return network(x_nchw), targets, SUMMED
    windows = x_nchw[:, 0].unfold(1, frames, 2 * PADDED_STRIDE).transpose(2, 3)  # [n, windows, frames, channels]
    logits = network(windows.flatten(0, 1)[:, None])
    return logits.unflatten(0, windows.shape[:2]), targets[:, ::PADDED_STRIDE], SUMMED // PADDED_STRIDE


def word_evidence(logits: Tensor) -> Tensor:
    """Logits [n, windows, labels] to each word's log odds against all other labels, [n, words, windows]."""
    others = [
        torch.logsumexp(torch.cat([logits[:, :, :word], logits[:, :, word + 1 :]], dim=2), dim=2)
        for word in range(2, logits.shape[2])
    ]
    return logits[:, :, 2:].transpose(1, 2) - torch.stack(others, dim=1)


def _sum_loss(logits: Tensor, targets: Tensor, summed: int) -> Tensor:
    sums = F.avg_pool1d(word_evidence(logits), summed, 1)  # [n, words, places]
    is_word = targets >= 2
    has_word = is_word.any(dim=1)
    word = torch.where(has_word, targets.amax(dim=1) - 2, 0)[:, None, None].expand(-1, 1, sums.shape[2])
    spoken = F.max_pool1d(is_word.float()[:, None], summed, 1)[:, 0] > 0
    near = F.max_pool1d((is_word | (targets == IGNORED)).float()[:, None], summed, 1) > 0
    own = sums.gather(1, word)[:, 0].masked_fill(~spoken, -1e4)
    heard = torch.logsumexp(own / SOFTNESS, dim=1) * SOFTNESS
    missed = _mean(F.softplus(MARGIN - heard), has_word)
    forbidden = torch.ones_like(sums, dtype=torch.bool).scatter(1, word, ~(near & has_word[:, None, None]))
    wrong = F.softplus(sums + MARGIN).masked_fill(~forbidden, 0.0).amax(dim=2).sum(dim=1).mean()
    return missed + wrong


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Over the chosen ones; 0 if there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
