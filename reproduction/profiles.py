"""On what the tables are measured: the paper's data sets, or small ones that are to be had anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reproduction.data_sets import DataSet, GeneratedVideo, MadeSet


@dataclass(frozen=True)
class Profile:
    """Data sets and sizes.

    Attributes:
        name: as given to --profile.
        statement: what a reader of the results has to know of them, first of all.
        data_sets: by the names that the tables use, and "single", "multi" and "trace" for speed and memory.
        lengths: n of the n× variants of Long-time Video in figure 7; there is a data set Lnx for each.
        scales: sizes of the multi-scale variants, as multiples of a data set's.
        offsets: how many offsets of the memory insertion a mean is over.
        every_row_over_offsets: else only the rows of priority 0, in videos of 1× and 3×, and all others have one.
        traced_frames: of "trace", from which memory and time are measured frame by frame.
    """

    name: str
    statement: str
    data_sets: Mapping[str, DataSet]
    lengths: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: int = 5
    every_row_over_offsets: bool = True
    traced_frames: int = 2000


def lengthened(data_set: DataSet, lengths: tuple[int, ...]) -> dict[str, DataSet]:
    """Variants of a set of 1×, named L1x, L2x, …"""
    return {
        f"L{n}x": replace(data_set, name=f"{data_set.name}_{n}x", title=f"{data_set.title}, {n}×", repeat=n)
        for n in lengths
    }


def paper_profile() -> Profile:
    """The paper's data sets, as they lie below the data root by default."""
    lengths = (1, 2, 3, 4, 6, 8, 10)
    every_tenth = {"mem_every": 10}
    long = DataSet("long", "Long-time Video", "LV1", "long_video_set", size=-1, inference=every_tenth)
    davis_2016 = DataSet("D16", "DAVIS 2016 val", "D16", "DAVIS/2016")
    davis_2017 = DataSet("D17", "DAVIS 2017 val", "D17", "DAVIS/2017")
    return Profile(
        name="paper",
        statement="",
        data_sets={
            "D16": davis_2016,
            "D17": davis_2017,
            "D17-test": DataSet("D17-test", "DAVIS 2017 test-dev", "D17", "DAVIS/2017", "test"),
            "D17-test-600": DataSet("D17-test-600", "DAVIS 2017 test-dev, 600p", "D17", "DAVIS/2017", "test", 600),
            "Y18": DataSet("Y18", "YouTubeVOS 2018 val", "Y18", "YouTube2018"),
            "Y19": DataSet("Y19", "YouTubeVOS 2019 val", "Y19", "YouTube"),
            "MOSE": DataSet("MOSE", "MOSE val", "MOSE", "MOSE"),
            **lengthened(long, lengths),
            "L3x": DataSet("long_3x", "Long-time Video (3×)", "LV3", "long_video_set", size=-1, inference=every_tenth),
            "single": davis_2016,
            "multi": davis_2017,
            "trace": replace(long, name="trace", title="Long-time Video, 3×", repeat=3, inference={}),
        },
        lengths=lengths,
        scales=(1.0, 1.25, 1.5),
        traced_frames=7000,
    )


HELD_OUT = ("car-shadow", "cows", "dog", "drift-straight")
"""The sequences of DAVIS 2016 that the bundled network was not trained on."""


def small_profile(size: int) -> Profile:
    """Four sequences of DAVIS 2016 at a shorter side of `size`, and smaller long videos, made of these and by the
    generator: for two CPU cores and about an hour.

    T_max, T_min and r fill working memory so often that every long video, of 165 frames at least, is consolidated ten
    times or more. The bound on memory frames, of sparse insertion and the local window, is as tight as the paper's:
    one of five.
    """
    lengths = (1, 2, 3, 5)
    long_size = 16 * round(0.8 * size / 16)
    davis = DataSet(
        "davis", f"{len(HELD_OUT)} sequences of DAVIS 2016", "D16", "DAVIS/2016", size=size, videos=HELD_OUT
    )
    generated = GeneratedVideo("generated", seed=3, frames=240, objects=2)
    long = DataSet(
        "long",
        "five long videos, four made of DAVIS sequences and one generated",
        "G",
        f"long_{long_size}",
        size=long_size,
        inference={"mem_every": 5, "max_mid_term_frames": 6, "min_mid_term_frames": 3, "max_memory_frames": 8},
        make=MadeSet(long_size, dict.fromkeys(HELD_OUT, 165), (generated,)),
    )
    multi = DataSet(
        "generated",
        "a generated video of two objects",
        "G",
        f"generated_{long_size}",
        size=long_size,
        make=MadeSet(long_size, generated=(generated,)),
    )
    traced_frames = 2000
    trace = DataSet(
        "trace",
        f"a generated video of {traced_frames} frames",
        "G",
        f"trace_{long_size}",
        size=long_size,
        inference={"max_long_term_elements": 1600},  # as many frames' worth of elements as the paper's 10,000 at 480p
        make=MadeSet(long_size, generated=(GeneratedVideo("trace", seed=2, frames=traced_frames, objects=1),)),
    )
    return Profile(
        name="small",
        statement=(
            f"These are figures of a small network on {len(HELD_OUT)} sequences of DAVIS 2016 at {size} pixels, and on "
            f"videos made of them and by a generator at {long_size} pixels. They are not the paper's, and do "
            "not compare with the published ones beside them, which are of the full network on whole data sets. What "
            "compares is which variant is better than which."
        ),
        data_sets={
            "D16": davis,
            "D17": davis,
            **lengthened(long, lengths),
            "single": davis,
            "multi": multi,
            "trace": trace,
        },
        lengths=lengths,
        scales=(1.0, 1.25, 1.5),
        every_row_over_offsets=False,
        traced_frames=traced_frames,
    )
