import io
import json
import wave
from dataclasses import replace

import pytest
from zit_speech import RATE, WAV

from zit_ext import ModelRef, Outcome, Request, ResultTier
from zit_ext.errors import RequestError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LETTERS = " abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """A VITS model of a few hundred kilobytes with random weights: it speaks noise, but its own."""
    folder = tmp_path_factory.mktemp("voice")
    (folder / "vocab.json").write_text(
        json.dumps({"<pad>": 0} | {each: i + 1 for i, each in enumerate(LETTERS)})
    )
    tokenizer = transformers.VitsTokenizer(
        str(folder / "vocab.json"), pad_token="<pad>", unk_token="<pad>", phonemize=False, is_uroman=False
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.VitsConfig(
        vocab_size=len(LETTERS) + 1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=9,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=2,
        posterior_encoder_num_wavenet_layers=2,
        duration_predictor_num_flows=2,
        duration_predictor_filter_channels=16,
        depth_separable_num_layers=2,
        upsample_initial_channel=32,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        use_stochastic_duration_prediction=True,
        sampling_rate=16_000,
    )
    transformers.VitsModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def ask(voice):
    return Request(prompt="a lighthouse at dusk", seed=7, media_type=WAV, model=ModelRef(source=str(voice)))


@pytest.fixture
def engine(make_zit_engine):
    return make_zit_engine(real_weights=True, device="cpu")


def test_a_sentence_is_spoken_once_and_heard_again_to_the_bit(engine, make_zit_engine, ask):
    first = engine.generate(ask)
    engine.stored()
    second = engine.generate(ask)
    assert (first.status.outcome, second.status.outcome) == (Outcome.MISS, Outcome.HIT)
    assert (second.status.tier, second.media_type) == (ResultTier.DISK, WAV)
    assert first.data() == second.data()
    engine.close()
    after_restart = make_zit_engine(real_weights=True, device="cpu").generate(ask)
    assert (after_restart.status.outcome, after_restart.data()) == (Outcome.HIT, first.data())


def test_it_is_a_wave_file_with_sound_in_it(engine, ask):
    with wave.open(io.BytesIO(engine.generate(ask).data())) as heard:
        assert (heard.getnchannels(), heard.getsampwidth(), heard.getframerate()) == (1, 2, 16_000)
        assert heard.getnframes() > 100
        assert len(set(heard.readframes(heard.getnframes()))) > 10


def test_a_hit_is_what_a_new_run_gives(engine, ask):
    stored = engine.generate(ask)
    again = engine.generate(replace(ask, cache="refresh"))
    assert again.status.outcome is Outcome.MISS
    assert again.data() == stored.data()


@pytest.mark.parametrize("change", [{"prompt": "a fox"}, {"seed": 8}, {"extra": {RATE: 0.5}}])
def test_what_is_heard_is_in_the_key(engine, ask, change):
    usual, other = engine.generate(ask), engine.generate(replace(ask, **change))
    assert other.status.outcome is Outcome.MISS
    assert other.data() != usual.data()


def test_sounds_are_listed_verified_and_evicted_like_pictures(make_zit_engine, ask):
    engine = make_zit_engine(real_weights=True, device="cpu", max_entries=2)
    for seed in (1, 2, 3):
        engine.generate(replace(ask, seed=seed))
        kept = engine.stored()
    assert len(kept) == 2
    assert {entry.blob.media_type for entry in kept} == {WAV}
    assert {entry.prompt for entry in kept} == {ask.prompt}
    assert engine.runtime.store.verify().is_whole
    assert engine.generate(replace(ask, seed=1)).status.outcome is Outcome.MISS


def test_a_damaged_sound_costs_a_hit_and_is_spoken_again(make_zit_engine, ask, tmp_path):
    engine = make_zit_engine(real_weights=True, device="cpu")
    first = engine.generate(ask)
    engine.stored()
    (blob,) = [path for path in (tmp_path / "zit_ext").rglob("blobs/*/*") if path.is_file()]
    blob.write_bytes(b"RIFF" + bytes(blob.stat().st_size - 4))
    again = engine.generate(ask)
    assert (again.status.outcome, again.data()) == (Outcome.MISS, first.data())


def test_who_asks_it_for_a_picture_is_told_what_to_ask_for(engine, ask):
    with pytest.raises(RequestError, match="audio/wav"):
        engine.generate(replace(ask, media_type="image/png"))


def test_it_leaves_other_models_to_others(zit_engine, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    import zit_speech

    assert zit_speech.zit_open_pipeline(ModelRef(source=str(other), path=other)) is None
