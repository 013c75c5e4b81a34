"""What is listed of each published data set, laid out as its release is."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from tests.releases import COOK, KINETICS, labels, listing, media, names, write_copy
from vatt.data import builders
from vatt.data.captions import Caption
from vatt.errors import DataError

INF = float("inf")


@pytest.fixture
def copy(tmp_path):
    return partial(write_copy, tmp_path)


@pytest.mark.parametrize("place", ["annotations/val.csv", "val.csv", "validate.csv", "kinetics-600_val.csv"])
def test_kinetics_is_read_wherever_its_editions_keep_their_files(copy, place):
    rows = 'abseiling,-3B32lodo2M,59,69,val,0\n"air drumming",_dbcJuKJQNs,40,50,val,0\nyoga,gone00000_0,1,11,val,0\n'
    folder = copy(
        table={place: KINETICS + rows},
        media=media("val/abseiling/-3B32lodo2M_000059_000069.mp4", "val/_dbcJuKJQNs_000040_000050.mp4"),
    )
    found = listing("kinetics600", folder, "val")
    assert names(found, folder) == {
        "-3B32lodo2M_000059_000069": "val/abseiling/-3B32lodo2M_000059_000069.mp4",
        "_dbcJuKJQNs_000040_000050": "val/_dbcJuKJQNs_000040_000050.mp4",
    }
    assert labels(found)["_dbcJuKJQNs_000040_000050"] == ("air drumming",)
    assert all((row.start, row.end, row.captions) == (0.0, None, ()) for row in found.rows)
    assert [fault.id for fault in found.faults] == ["gone00000_0_000001_000011"]
    assert "gone00000_0_000001_000011" in found.faults[0].detail


def test_kinetics_cuts_whole_videos_and_takes_replacements(copy):
    folder = copy(
        table={"annotations/train.csv": KINETICS + "abseiling,aaa,59,69,train,0\nyoga,bbb,3,13,train,0\n"},
        media=media("train/aaa.mp4", "train/bbb_000003_000013.mp4", "zz/replacement_for_k400/bbb_000003_000013.mp4"),
    )
    whole, replaced = listing("kinetics400", folder).rows
    assert (whole.id, whole.start, whole.end) == ("aaa_000059_000069", 59.0, 69.0)
    assert "replacement_for_k400" in str(replaced.media)
    assert (replaced.start, replaced.end) == (0.0, None)


def test_kinetics_test_may_lack_labels(copy):
    folder = copy(
        table={"kinetics-400_test.csv": "youtube_id,time_start,time_end,split\naaa,1,11,test\n"},
        media=media("test/aaa_000001_000011.mp4"),
    )
    assert labels(listing("kinetics400", folder, "test")) == {"aaa_000001_000011": ()}


def test_two_editions_in_one_folder_are_refused(copy):
    folder = copy(table={"kinetics-400_train.csv": KINETICS, "kinetics-600_train.csv": KINETICS})
    with pytest.raises(DataError, match=r"found kinetics-400_train\.csv, kinetics-600_train\.csv; keep one edition"):
        listing("kinetics400", folder)


AUDIOSET = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n"
    "# num_ytids=3, num_segs=3, num_unique_labels=527, num_positive_labels=4\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)
CLASSES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n300,/m/0k4j,"Car"\n'


@pytest.mark.parametrize(
    "name",
    [
        *("-0RWZT-miFs_420.wav", "-0RWZT-miFs_420.000.mp4", "-0RWZT-miFs_000420.mp4", "-0RWZT-miFs_420_430.flac"),
        *("-0RWZT-miFs_420000_430000.flac", "-0RWZT-miFs_420.0.wav", "Y-0RWZT-miFs.wav", "-0RWZT-miFs.wav"),
    ],
)
def test_audioset_is_found_as_downloaders_name_it(copy, name):
    folder = copy(
        tables={
            "eval_segments.csv": AUDIOSET + '-0RWZT-miFs, 420.000, 430.000, "/m/05zppz,/m/0k4j"\n',
            "class_labels_indices.csv": CLASSES,
        },
        media=media(f"audio/{name}"),
    )
    (row,) = listing("audioset", folder, "eval").rows
    assert (row.id, Path(str(row.media)).name) == ("-0RWZT-miFs_420", name)
    assert row.labels == ("Male speech, man speaking", "Car")
    assert (row.start, row.end, row.captions) == (0.0, None, ())


def test_audioset_trains_on_both_parts_and_prefers_video(copy):
    folder = copy(
        tables={
            "balanced_train_segments.csv": AUDIOSET + '--4gqARaEJE, 0.000, 10.000, "/m/09x0r"\n',
            "unbalanced_train_segments.csv": AUDIOSET
            + '---1_cCGK4M, 0.000, 10.000, "/m/0k4j"\n---2_BBVHAA, 30.000, 40.000, "/m/09x0r"\n',
            "class_labels_indices.csv": CLASSES,
        },
        media=media("wav/Y--4gqARaEJE.wav", "Y---1_cCGK4M.wav", "video/Y---1_cCGK4M.mp4", "Y---1_cCGK4M.mp4.part"),
    )
    found = listing("audioset", folder)
    assert names(found, folder) == {"--4gqARaEJE_0": "wav/Y--4gqARaEJE.wav", "---1_cCGK4M_0": "video/Y---1_cCGK4M.mp4"}
    assert [fault.id for fault in found.faults] == ["---2_BBVHAA_30"]
    assert [row.id for row in listing("audioset", folder, "balanced_train").rows] == ["--4gqARaEJE_0"]


def test_audioset_names_the_class_it_does_not_know(copy):
    folder = copy(
        tables={
            "eval_segments.csv": AUDIOSET + 'abc, 0.000, 10.000, "/m/0nope"\n',
            "class_labels_indices.csv": CLASSES,
        }
    )
    with pytest.raises(DataError, match=r"segments\.csv, line 4: no class /m/0nope in .*class_labels_indices\.csv"):
        listing("audioset", folder, "eval")


def test_vggsound(copy):
    rows = '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"bird chirping, tweeting",train\n--x,7,skiing,train\n'
    folder = copy(table={"vggsound.csv": rows}, media=media("---g-f_I2yQ_000001.mp4", "video/--0PQM4-hqg_000030.mp4"))
    train, test = listing("vggsound", folder), listing("vggsound", folder, "test")
    assert labels(train) == {"--0PQM4-hqg_000030": ("bird chirping, tweeting",)}
    assert [fault.id for fault in train.faults] == ["--x_000007"]
    assert labels(test) == {"---g-f_I2yQ_000001": ("people marching",)}


def test_audiocaps_gathers_the_captions_of_a_clip(copy):
    header = "audiocap_id,youtube_id,start_time,caption\n"
    folder = copy(
        tables={
            "dataset/train.csv": header + "91139,r1nicOVtvkQ,130,A woman talks nearby as water pours\n",
            "dataset/test.csv": header
            + '103549,7fmOlUlwoNg,30,"Constant rattling, then a click"\n103548,7fmOlUlwoNg,30,Rattling\n1,zz,0,Gone\n'
            + "2,zz,0,Gone too\n3,ab,5,One\n4,ab,5,Two\n5,ab,5,Three\n",
        },
        media=media("train/91139.wav", "test/Y7fmOlUlwoNg.wav", "test/4.wav"),
    )
    (row,) = listing("audiocaps", folder).rows
    assert (row.id, row.labels) == ("r1nicOVtvkQ_130", ())
    assert row.captions == (Caption(0.0, INF, "A woman talks nearby as water pours"),)
    test = listing("audiocaps", folder, "test")
    assert [[c.text for c in row.captions] for row in test.rows] == [
        ["Constant rattling, then a click", "Rattling"],
        ["One", "Two", "Three"],  # its file is called by one of the three lines
    ]
    assert [fault.id for fault in test.faults] == ["zz_0"]


def test_youcook2_lists_steps_of_whole_videos(copy):
    tested = {"zzz": {"subset": "testing", "recipe_type": "101", "annotations": [{"segment": [1, 2.5], "id": 0}]}}
    folder = copy(
        tables={
            "annotations/youcookii_annotations_trainval.json": json.dumps(COOK),
            "annotations/youcookii_annotations_test_segments_only.json": json.dumps({"database": tested}),
            "label_foodtype.csv": "101,fattoush\n113,grilled cheese\n",
            "splits/train_list.txt": "113/GLd3aX16zBg\n",
        },
        media=media("raw_videos/training/113/GLd3aX16zBg.mkv", "raw_videos/testing/101/zzz.mp4"),
    )
    first, second = listing("youcook2", folder).rows
    assert (first.id, first.start, first.end, first.media) == ("GLd3aX16zBg_0", 90.0, 102.0, second.media)
    assert first.captions == (Caption(90.0, 102.0, "spread margarine on two slices of white bread"),)
    assert second.captions == (Caption(114.0, 127.0, "place a slice of cheese on the bread"),)
    assert first.labels == second.labels == ("grilled cheese",)
    val = listing("youcook2", folder, "val")
    assert (val.rows, [fault.id for fault in val.faults]) == ([], ["xHr8X2Wpmno_0"])
    (test,) = listing("youcook2", folder, "test").rows
    assert (test.id, test.start, test.end, test.captions) == ("zzz_0", 1.0, 2.5, ())


def test_youcook2_names_the_malformed_step(copy):
    broken = json.loads(json.dumps(COOK).replace("[114, 127]", '[114, "?"]'))
    folder = copy(tables={"youcookii_annotations_trainval.json": json.dumps(broken)})
    with pytest.raises(DataError, match=r"trainval\.json: GLd3aX16zBg, step 1: segment is '\?'; expected a number"):
        listing("youcook2", folder)


def msrvtt(*parts: tuple[str, str]) -> str:
    """Annotations of videos, as (id, split), with twenty captions each, two of which are the same."""
    videos = [
        {
            **{"category": index, "url": "https://www.youtube.com/watch?v=9lZi22qLlEo", "video_id": video},
            **{"start time": 137.72, "end time": 149.44, "split": split, "id": index},
        }
        for index, (video, split) in enumerate(parts)
    ]
    sentences = [
        {"caption": f"{video} {max(n, 1)}", "video_id": video, "sen_id": 20 * index + n}
        for index, (video, _) in enumerate(parts)
        for n in range(20)
    ]
    return json.dumps({"info": {"year": "2016"}, "videos": videos, "sentences": sentences})


VIDEOS = (("video0", "train"), ("video1", "train"), ("video6513", "validate"), ("video7010", "test"))
MSRVTT = {
    "MSRVTT_train.9k.csv": "video_id\nvideo0\nvideo6513\nvideo7010\n",
    "MSRVTT_train.7k.csv": "video_id\nvideo0\nvideo6513\n",
    "MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence\nret0,msr7010,video7010,a person, connects\n".replace(
        "a person, connects", '"a person, connects"'
    ),
    "category.txt": "music\t0\npeople\t1\ngaming\t2\nsports/actions\t3\n",
}
CLIPS = media("videos/all/video0.mp4", "videos/all/video6513.mp4", "videos/all/video7010.mp4")


@pytest.mark.parametrize(
    "annotations",
    [
        {"MSRVTT_data.json": msrvtt(*VIDEOS)},
        {
            "annotation/train_val_videodatainfo.json": msrvtt(*VIDEOS[:3]),
            "videodatainfo_2016.json": msrvtt(*VIDEOS[:3]),
            "test_videodatainfo.json": msrvtt(*VIDEOS[3:]),
        },
    ],
)
def test_msrvtt_has_its_official_splits_and_those_of_retrieval(copy, annotations):
    folder = copy(annotations=annotations, lists=MSRVTT, media=CLIPS)
    ids = {split: [row.id for row in listing("msrvtt", folder, split).rows] for split in builders.load("msrvtt").SPLITS}
    assert ids == {
        **{"train": ["video0"], "val": ["video6513"], "test": ["video7010"], "test1k": ["video7010"]},
        **{"train9k": ["video0", "video6513", "video7010"], "train7k": ["video0", "video6513"]},
    }
    train = listing("msrvtt", folder)
    assert [fault.id for fault in train.faults] == ["video1"]
    (row,) = train.rows
    assert [caption.text for caption in row.captions] == ["video0 1"] + [f"video0 {n}" for n in range(1, 20)]
    assert {(caption.start, caption.end) for caption in row.captions} == {(0.0, INF)}
    assert (row.start, row.end, row.labels) == (0.0, None, ("music",))
    (asked,) = listing("msrvtt", folder, "test1k").rows
    assert asked.captions == (Caption(0.0, INF, "a person, connects"),)


def test_msrvtt_says_which_annotations_it_lacks(copy):
    folder = copy(annotations={"train_val_videodatainfo.json": msrvtt(*VIDEOS[:3])}, lists=MSRVTT, media=CLIPS)
    with pytest.raises(DataError, match=r"no captions of video7010 in its annotations; put MSRVTT_data\.json there"):
        listing("msrvtt", folder, "train9k")
    with pytest.raises(DataError, match=r"no videos of test in its annotations"):
        listing("msrvtt", folder, "test")


def test_ucf101_has_each_official_split_and_all(copy):
    folder = copy(
        lists={
            "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\n2 ApplyLipstick\n",
            "ucfTrainTestlist/trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n",
            "ucfTrainTestlist/testlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\n"
            "ApplyLipstick/v_ApplyLipstick_g01_c01.avi\r\n",
            "ucfTrainTestlist/testlist03.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\n",
        },
        media=media(
            "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
        ),
    )
    assert labels(listing("ucf101", folder)) == {"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01": ("ApplyEyeMakeup",)}
    test = listing("ucf101", folder, "test1")
    assert [row.id for row in test.rows] == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01"]
    assert [fault.id for fault in test.faults] == ["ApplyLipstick/v_ApplyLipstick_g01_c01"]
    assert [row.id for row in listing("ucf101", folder, "test3").rows] == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01"]
    assert len(listing("ucf101", folder, "all").rows) == 2


@pytest.mark.parametrize("place", ["testTrainMulti_7030_splits", "test_train_splits/testTrainMulti_7030_splits", "."])
def test_hmdb51_has_each_official_split_and_all(copy, place):
    folder = copy(
        lists={
            f"{place}/brush_hair_test_split1.txt": "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \n"
            "atheismadvocate_brush_hair_u_#20; x_0.avi 2 \nunused.avi 0 \n",
            f"{place}/brush_hair_test_split2.txt": "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 2 \n",
            f"{place}/wave_test_split1.txt": "unused.avi 1 \n",
        },
        media=media(
            "hmdb51_org/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
            "hmdb51_org/brush_hair/atheismadvocate_brush_hair_u_#20; x_0.avi",
            "hmdb51_org/brush_hair/unused.avi",
            "hmdb51_org/wave/unused.avi",
        ),
    )
    april, unused = "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0", "wave/unused"
    train = listing("hmdb51", folder)
    assert labels(train) == {april: ("brush_hair",), unused: ("wave",)}
    assert names(train, folder)[unused] == "hmdb51_org/wave/unused.avi"
    assert [row.id for row in listing("hmdb51", folder, "test1").rows] == [
        "brush_hair/atheismadvocate_brush_hair_u_#20; x_0"
    ]
    assert [row.id for row in listing("hmdb51", folder, "test2").rows] == [april]
    assert len(listing("hmdb51", folder, "all").rows) == 4


def test_esc50_has_each_fold_and_what_is_left(copy):
    rows = [("1-100032-A-0", 1, 0, "dog"), ("2-100786-A-1", 2, 1, "rooster"), ("5-9032-A-0", 5, 0, "dog")]
    table = "filename,fold,target,category,esc10,src_file,take\n" + "".join(
        f"{stem}.wav,{fold},{target},{category},True,{stem.split('-')[1]},A\n" for stem, fold, target, category in rows
    )
    folder = copy(table={"meta/esc50.csv": table}, media=media("audio/1-100032-A-0.wav", "audio/2-100786-A-1.wav"))
    everything = listing("esc50", folder)
    assert labels(everything) == {"1-100032-A-0": ("dog",), "2-100786-A-1": ("rooster",)}
    assert [fault.id for fault in everything.faults] == ["5-9032-A-0"]
    assert [row.id for row in listing("esc50", folder, "fold1").rows] == ["1-100032-A-0"]
    assert [row.id for row in listing("esc50", folder, "train1").rows] == ["2-100786-A-1"]
    assert [fault.id for fault in listing("esc50", folder, "fold5").faults] == ["5-9032-A-0"]


def test_moments_tells_files_of_one_name_apart(copy):
    folder = copy(
        tables={
            "trainingSet.csv": "blocking/x_4.mp4,blocking,3,0\nclapping/x_4.mp4,clapping,8,2\n"
            "clapping/y.mp4,clapping,3,0\n",
            "validationSet.csv": "clapping/x_4.mp4,clapping,5,1\n",
            "moments_categories.txt": "clapping,0\nblocking,1\n",
        },
        media=media("training/blocking/x_4.mp4", "training/clapping/x_4.mp4", "validation/clapping/x_4.mp4"),
    )
    train = listing("moments", folder)
    assert labels(train) == {"blocking/x_4": ("blocking",), "clapping/x_4": ("clapping",)}
    assert names(train, folder)["clapping/x_4"] == "training/clapping/x_4.mp4"
    assert [fault.id for fault in train.faults] == ["clapping/y"]
    assert names(listing("moments", folder, "val"), folder) == {"clapping/x_4": "validation/clapping/x_4.mp4"}


PICTURES = media(
    "train/n02012849/n02012849_7.JPEG", "train/n01440764/n01440764_10026.JPEG", "val/ILSVRC2012_val_00000001.JPEG"
)


def test_imagenet_as_kaggle_has_it(copy):
    solution = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 111 108 230 366 \n"
    folder = copy(
        tables={
            "LOC_val_solution.csv": solution + "ILSVRC2012_val_00000002,n02012849 0 1 2 3 n02012849 4 5 6 7 \n",
            "LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\nn02012849 crane\n",
        },
        media={f"ILSVRC/Data/CLS-LOC/{path}": text for path, text in PICTURES.items()}
        | media("ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG"),
    )
    train, val = listing("imagenet", folder), listing("imagenet", folder, "val")
    assert labels(train) == {
        "n01440764/n01440764_10026": ("n01440764",),
        "n02012849/n02012849_7": ("n02012849",),
    }
    assert labels(val) == {"ILSVRC2012_val_00000001": ("n01440764",)}
    assert [fault.id for fault in val.faults] == ["ILSVRC2012_val_00000002"]
    assert labels(listing("imagenet", folder, "test")) == {"ILSVRC2012_test_00000001": ()}


def test_imagenet_with_the_development_kit(copy):
    folder = copy(media=PICTURES, kit={"ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "490\n7\n"})
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    synsets = np.array([(490, "n02012849", "crane"), (7, "n01440764", "tench")], dtype=fields)
    scipy.io.savemat(folder / "ILSVRC2012_devkit_t12/data/meta.mat", {"synsets": synsets.reshape(2, 1)})
    val = listing("imagenet", folder, "val")
    assert labels(val) == {"ILSVRC2012_val_00000001": ("n02012849",)}
    assert [fault.id for fault in val.faults] == ["ILSVRC2012_val_00000002"]


def test_imagenet_with_validation_pictures_in_folders_of_classes(copy):
    folder = copy(media=media("val/n01440764/ILSVRC2012_val_00000293.JPEG"))
    assert labels(listing("imagenet", folder, "val")) == {"n01440764/ILSVRC2012_val_00000293": ("n01440764",)}
    with pytest.raises(DataError, match=r"no ILSVRC/Data/CLS-LOC/train and no train there"):
        listing("imagenet", folder)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_imagenet_that_is_still_packed_is_told_of(copy, split):
    with pytest.raises(DataError, match=rf"{split}: no pictures there; unpack"):
        listing("imagenet", copy(media=media(f"{split}/n01440764.tar")), split)
