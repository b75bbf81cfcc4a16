"""What label images are called: by the file alone, and longer where files would share a name."""

from pathlib import Path

from app.names import LONGEST, earlier_names, output_names


def named(*names, challenge=False):
    """The names of the label images of these inputs, without their ending."""
    paths = [Path(name) for name in names]
    found = output_names(paths, challenge)
    return [found[path][: -len("_label.tiff")] for path in paths]


def test_an_input_alone_gives_its_name_without_the_extension():
    for name, stem in (
        ("a b.PNG", "a b"),
        ("2024.01.12_A01.tif", "2024.01.12_A01"),
        ("cell_1.ome.tif", "cell_1"),
        ("cell.1.OME.TIFF", "cell.1"),
        ("cell.1.ome.btf", "cell.1"),
        ("cell.1.ome.tf8", "cell.1"),
    ):
        assert named(name) == [stem]


def test_the_challenge_cuts_at_the_first_dot_where_that_tells_inputs_apart():
    assert named("cell_1.ome.tif", "b.png", challenge=True) == ["cell_1", "b"]
    assert named("p.A01.tif", "p.A02.tif", "q.x.tif", challenge=True) == ["p.A01", "p.A02", "q"]


def test_inputs_that_would_share_a_name_get_longer_ones():
    assert named("x.tif", "x.jpg", "y.tif") == ["x_tif", "x_jpg", "y"]
    assert named("x.tif", "x.jpg", challenge=True) == ["x_tif", "x_jpg"]
    assert named("x.TIF", "x.tif", "x.ome.tif") == ["x_TIF", "x_tif", "x_ome_tif"]
    assert named("x.tif", "x.jpg", "x_tif.png") == ["x.tif", "x_jpg", "x_tif_png"]
    assert named("/1/a/x.tif", "/2/a/x.tif", "/b/x.tif") == ["1_a_x.tif", "2_a_x.tif", "b_x.tif"]


def test_labels_of_an_earlier_run_may_have_any_of_these_names():
    assert earlier_names(Path("p.A01.ome.tif")) == [
        f"{name}_label.tiff" for name in ("p", "p.A01", "p.A01_ome_tif", "p.A01.ome.tif")
    ]


def test_names_too_long_for_our_endings_are_cut_and_stay_apart():
    """No image is refused for its name: 255 bytes are what a file may be called."""
    first, second = "é" * 124 + "a.tif", "é" * 124 + "b.tif"
    found = named(first, second, "short.tif")
    assert len(set(found)) == 3 and found[2] == "short"
    assert all(len(f"{name}_preview.png".encode()) <= 255 for name in found)
    assert f"{found[0]}_label.tiff" in earlier_names(Path(first))
    edge = "x" * LONGEST
    assert named(f"{edge}.tif") == [edge]
