"""How common a word sounds, told before anything but a last layer is trained: a short word that is part of many others
cannot be told from speech by any network of this size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from converter.files import scratch_folder
from converter.spec import DetectorSpec
from trainer.data.augment import load_split
from trainer.data.dataset import Selection, noise_backgrounds
from trainer.data.features import stream_features
from trainer.data.negatives import load_negatives
from trainer.data.scenes import Scenes
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import Network, fold_norms
from trainer.network.quant_options import QuantOptions
from trainer.run.fine_tune import calibrate
from trainer.run.fit import TrainSettings, fit
from trainer.run.operating_point import RATES, Heard, chosen_by, heard_evidence, played_words
from trainer.run.steps import CACHE, Source, pool_of

SCENES = 4000  # that the last layer learns from
STREAM_S = 600  # of each speaker, at most


def missed_by_a_last_layer(
    network: Network, source: Source, selection: Selection, settings: TrainSettings, progress: Progress
) -> float:
    """Share of the training takes, 0..1, that a network misses at the highest of RATES, false accepts an hour of
    training speakers, when its last layer alone has been trained for them. Changes `network`; ten seconds."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("blocks.logits."))
    features, pool = selection.spec.features, pool_of(source, selection, settings, progress)
    assert isinstance(pool, Scenes) and source.negatives is not None
    part = pool.part(slice(0, SCENES))
    validation = load_split(selection, "validation", CACHE, progress)
    with scratch_folder() as folder:
        checkpoint = folder / "last.pt"
        fit(network, part, validation, replace(settings, epochs=1), features, checkpoint, progress, "a last layer")
    quant = QuantNetwork(fold_norms(network), features, QuantOptions())
    calibrate(quant, part, settings.seed)
    heard = []
    for stream, pcm in load_negatives(Path(source.negatives), selection.spec.words, "train"):
        if stream.kind == "speech":
            some = pcm[: STREAM_S * features.sample_rate_hz]
            evidence = heard_evidence(quant, stream_features(some, features))
            heard.append(Heard(stream.name, len(some) / features.sample_rate_hz, evidence))
    untuned = DetectorSpec.untuned(len(selection.spec.words))
    takes = load_split(selection, "train", CACHE, progress)
    played = played_words(takes, noise_backgrounds(selection, "train"), features, untuned)
    return chosen_by(heard, quant, played, untuned, RATES[-1])[1][str(RATES[-1])]
