"""sh predict.sh --report: the page to look at of a run, which the evaluator writes."""

import numpy as np
import tifffile
from drawn import drawn
from PIL import Image
from test_predict import folders, noise  # noqa: F401 (fixtures)
from test_report import Page, noisy

from app import predict, report


def test_the_page_shows_each_image_with_its_cells(noise, capsys):  # noqa: F811
    folder = noise("--report")
    out, err = capsys.readouterr()
    page = Page(folder / "report.html")
    assert page.names() == ["a.png", "b.tif"]
    for name in page.names():
        labels = tifffile.imread(str(folder / f"{name[0]}_label.tiff"))
        assert page.row(name)["Cells"] == labels.max() and page.row(name)["problems"] == []
        assert len(page.image(name)["prediction"]["scores"]) == labels.max()
    assert f"To look at: {folder / 'report.html'}, in a browser. There is more: --preview" in err
    assert "--report" not in err


def test_without_it_the_end_of_a_run_says_how_to_get_it(noise, capsys):  # noqa: F811
    folder = noise()
    assert "--report, a page for the browser; --preview, pictures" in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_quiet_runs_say_nothing_of_it(noise, capfd):  # noqa: F811
    folder = noise("--report", "--quiet")
    assert capfd.readouterr() == ("", "")
    assert (folder / "report.html").exists()


def test_failed_images_and_those_in_folders_are_in_it(folders, capfd):  # noqa: F811
    inputs, labels = folders
    (inputs / "more").mkdir()
    Image.new("L", (8, 6)).save(str(inputs / "more" / "a.tif"))
    (inputs / "bad.png").write_bytes(b"no image")
    arguments = [str(inputs), str(labels), "--report", "--recursive"]
    assert predict.main(arguments) == 1
    page = Page(labels / "report.html")
    assert page.names() == ["a.tif", "b.png", "bad.png", "more/a.tif"]
    assert page.row("bad")["State"] == "problem"
    assert page.row("more/a.tif")["Cells"] == 1
    assert predict.main([*arguments, "--overwrite"]) == 1, "its pictures are no inputs"
    assert len(Page(labels / "report.html").names()) == 4


def test_a_file_of_the_users_is_not_replaced_by_it(folders, capfd):  # noqa: F811
    inputs, labels = folders
    labels.mkdir(parents=True)
    (labels / "report.html").write_text("mine")
    assert predict.main([str(inputs), str(labels), "--report"]) == 1
    err = capfd.readouterr().err
    assert "is no report of this program" in err and "could not be written" in err
    assert "To look at" not in err
    assert (labels / "report.html").read_text() == "mine"
    assert len(list(labels.glob("*_label.tiff"))) == 2


def test_channels_and_planes_are_those_of_the_run(tmp_path):
    stack = np.zeros((3, 20, 30), np.uint8)
    stack[2] = noisy(20, 30)
    tifffile.imwrite(str(tmp_path / "a.tif"), stack, metadata={"axes": "ZYX"})
    tifffile.imwrite(str(tmp_path / "a_label.tiff"), drawn((20, 30), (5, 5, 15, 15)))
    found = [("a.tif", tmp_path / "a.tif", tmp_path / "a_label.tiff")]
    assert report.write(tmp_path, found, plane=3, channels=[1])
    assert Page(tmp_path / "report.html").picture("a.tif").max() > 150


def test_it_is_written_wherever_the_command_was_started(folders, tmp_path, monkeypatch):  # noqa: F811
    inputs, _ = folders
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "__init__.py").write_text("raise SystemExit('not ours')")
    monkeypatch.chdir(tmp_path)
    assert predict.main(["inputs", "labels", "--report"]) == 0
    assert Page(tmp_path / "labels" / "report.html").names() == ["a.tif", "b.png"]
