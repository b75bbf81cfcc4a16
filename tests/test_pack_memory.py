"""What packed images take, as the command tells it."""

from experiments import __main__ as command
from experiments import pack_memory


def test_the_command_draws_images_once_and_tells_what_they_take(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pack_memory, "SIDE", 300)
    given = ["pack-memory", "--megapixels", "1", "--data", str(tmp_path / "data")]
    assert command.main(given) == 0
    told = capsys.readouterr().out
    assert "1.0 Mpx, packed: 6.00 bytes a pixel" in told
    assert "18.0 of 19." in told and "they lie on the GPU" in told
    monkeypatch.setattr(pack_memory, "draw", None)
    monkeypatch.setattr(pack_memory, "GPU_BYTES", 30e9)
    assert command.main(given) == 0
    assert "they lie on the host" in capsys.readouterr().out


def test_a_folder_without_images_of_training_is_named(tmp_path, capsys):
    (tmp_path / "catalog.csv").write_text("source,image,label,split\n")
    assert command.main(["pack-memory", "--data", str(tmp_path)]) == 2
    assert "has no image of the split 'train'" in capsys.readouterr().err
