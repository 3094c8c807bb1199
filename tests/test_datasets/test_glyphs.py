"""What is drawn, of which faces, and how faces are told apart and shared out."""

from __future__ import annotations

import json
import shutil
import unicodedata

import numpy as np
import pytest

from mmkendall.datasets.glyphs import (
    GlyphsError,
    capitals,
    find_faces,
    kanji,
    letters,
    make_glyphs,
    parts,
    read_classes,
    read_meta,
    read_split,
    split_groups,
    write_folder,
)
from mmkendall.datasets.glyphs.drawing import draw_face, jittered, look_alikes, plain


def faces_named(folder, *names):
    return [face for face in find_faces([folder])[0] if face.name in names]


def test_letters_are_119_and_leave_out_five():
    found = letters()
    assert len(found) == len(set(found)) == 119
    small = {chr(code) for code in range(0x180) if unicodedata.category(chr(code)) == 'Ll'}
    assert small - set(found) == set('µĳŀŉſ')
    assert not set(capitals()) & set(found)


def test_kanji_are_in_the_order_of_the_standard():
    assert ''.join(kanji(0, 8)) == '亜唖娃阿哀愛挨姶'
    assert kanji(2964, 1) == ('腕',)
    assert len(set(kanji()) | set(kanji(500, 100))) == 600
    with pytest.raises(GlyphsError, match='2965 characters of JIS level 1, got 2900 to 3000'):
        kanji(2900, 100)


def test_parts_of_a_class():
    assert parts('a') == ('a', '')
    assert parts('é') == ('e', 'acute accent')
    assert parts('ǻ') == ('a', 'ring above+acute accent')
    assert parts('ø') == ('ø', '')
    assert parts('ffi') == ('ffi', '')


def test_classes_of_a_file(tmp_path):
    file = tmp_path / 'classes.txt'
    file.write_text('a\nfi\n\né\n', encoding='utf-8')
    assert read_classes(file) == ('a', 'fi', 'é')
    for content, message in (('a\n', 'got 1'), ('a\nb\na\n', 'with a twice')):
        file.write_text(content)
        with pytest.raises(GlyphsError, match=message):
            read_classes(file)
    file.write_bytes(b'\xff\xfe')
    with pytest.raises(GlyphsError, match="can't be read as UTF-8"):
        read_classes(file)


def test_faces_and_what_they_lack(some_fonts, tmp_path):
    faces, unread = find_faces([some_fonts])
    assert not unread
    (sans,) = [face for face in faces if face.path.name == 'DejaVuSans.ttf']
    assert (sans.family, sans.style) == ('DejaVu Sans', 'Book')
    assert sans.lacks(letters()) == ''
    assert sans.lacks(('a亜', '唖')) == '亜唖'
    (tmp_path / 'broken.ttf').write_bytes(b'no font')
    faces, unread = find_faces([tmp_path])
    assert not faces
    assert "can't be read" in unread['broken.ttf']
    (sans,) = find_faces([some_fonts / 'DejaVuSans.ttf'])[0]
    assert sans in find_faces([some_fonts])[0]
    (tmp_path / 'fonts.txt').write_text('fonts-dejavu')
    with pytest.raises(GlyphsError, match=r'fonts\.txt is neither'):
        find_faces([some_fonts, tmp_path / 'fonts.txt'])
    with pytest.raises(GlyphsError, match='nowhere is neither'):
        find_faces([tmp_path / 'nowhere'])


def test_letters_keep_their_size_and_their_place(some_fonts):
    (face,) = faces_named(some_fonts, 'DejaVu Sans Book')
    images = plain(draw_face(face, 'xlpé')).astype(int)
    assert images.shape == (4, 32, 32)
    ink = [np.flatnonzero(image.max(axis=1) > 64) for image in images]
    x, l, p, e = ink  # noqa: E741
    # On one baseline, as high as the letter is, within the image, centred in the width.
    assert abs(x[-1] - l[-1]) <= 1
    assert abs(x[-1] - e[-1]) <= 1
    assert l[0] < x[0] - 3
    assert e[0] < x[0] - 3
    assert p[-1] > x[-1] + 3
    for image in images:
        assert image[:2].max() == image[-2:].max() == 0
        columns = np.flatnonzero(image.max(axis=0) > 64)
        assert abs(columns[0] + columns[-1] - 31) <= 1


def test_what_a_face_draws_alike_or_not_at_all_is_refused(some_fonts):
    (face,) = faces_named(some_fonts, 'DejaVu Sans Book')
    # A Latin and a Cyrillic letter of one outline.
    with pytest.raises(GlyphsError, match='it draws a and а alike'):
        draw_face(face, ('a', 'b', 'а'))
    with pytest.raises(GlyphsError, match='it draws \u2003 as nothing'):
        draw_face(face, ('a', '\u2003'))


def test_jitter_moves_every_view_and_repeats(some_fonts):
    (face,) = faces_named(some_fonts, 'DejaVu Sans Book')
    images = draw_face(face, 'ab')
    views = jittered(images, 3, 0, 'name')
    assert views.shape == (2, 3, 32, 32)
    assert views.dtype == np.uint8
    assert np.array_equal(views, jittered(images, 3, 0, 'name'))
    for other in (jittered(images, 3, 1, 'name'), jittered(images, 3, 0, 'other')):
        assert not np.array_equal(views, other)
    # Moved by 3 pixels at most, turned and scaled about the middle: as much ink, within a third.
    weight = plain(images).sum(axis=(1, 2))[:, None] / views.sum(axis=(2, 3))
    assert (abs(np.log(weight)) < np.log(1.5)).all()
    rows = np.arange(32)
    for letter, of_letter in zip(plain(images), views, strict=True):
        for view in of_letter:
            assert not np.array_equal(view, letter)
            for axis in (0, 1):
                centre = [each.sum(axis=axis) @ rows / each.sum() for each in (letter, view)]
                assert abs(centre[0] - centre[1]) < 5


def test_look_alikes_are_joined_in_chains():
    generator = np.random.default_rng(0)
    first, other = generator.integers(0, 256, (2, 3, 32, 32)).astype(np.uint8)
    drawings = np.stack([first, other, first // 2 + other // 2, first // 2 + 60, other])
    families = ['A', 'B', 'C', 'D', 'E']
    # The correlation of a pattern with its mean with another is about 0.7.
    assert look_alikes(drawings, families, 0.97) == [0, 1, 2, 0, 1]
    assert look_alikes(drawings, families, 0.6) == [0] * 5
    assert look_alikes(drawings, ['A', 'B', 'A', 'D', 'E'], 0.97) == [0, 1, 0, 0, 1]


def test_groups_are_shared_out_whole():
    groups = np.random.default_rng(0).integers(0, 40, 200).tolist()
    splits = [split_groups(groups, seed) for seed in range(5)]
    for split in splits:
        assert split.keys() == set(groups)
        share = [sum(split[group] == part for group in groups) / 200 for part in
                 ('train', 'val', 'test')]  # fmt: skip
        np.testing.assert_allclose(share, (0.3, 0.2, 0.5), atol=0.05)
    assert splits[0] == split_groups(groups, 0)
    assert splits[0] != splits[1]
    # A large group leaves one to each of the others.
    for seed in range(5):
        assert set(split_groups([0] * 50 + [1, 2], seed).values()) == {'train', 'val', 'test'}


def test_the_same_fonts_give_the_same_bytes(some_fonts):
    faces, _ = find_faces([some_fonts])
    made = [make_glyphs(faces, 'abc', 'XY', num_views=2, seed=seed) for seed in (0, 0, 1)]
    (arrays, meta), (again, _), (other, _) = made
    assert list(arrays) == ['train', 'val', 'test', 'transfer_train', 'transfer_test']
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    assert not any(np.array_equal(arrays[name], other[name]) for name in arrays)
    groups = {part: {face['group'] for face in drawn} for part, drawn in meta['faces'].items()}
    assert not groups['train'] & groups['test'] | groups['train'] & groups['val']
    assert not groups['val'] & groups['test']
    for part, views in (('train', 2), ('val', 1), ('test', 1)):
        assert arrays[part].shape == (len(meta['faces'][part]), 3, views, 32, 32)
        families = {face['family'] for face in meta['faces'][part]}
        for name, drawn in meta['faces'].items():
            assert name == part or not families & {face['family'] for face in drawn}
    assert max(np.bincount([face['group'] for faces in meta['faces'].values()
                            for face in faces])) <= 3  # fmt: skip
    # A font of radicals and brackets has no letters.
    (reason,) = {meta['left_out'][name] for name in meta['left_out'] if 'STIXSizFiveSym' in name}
    assert reason == 'it has no glyph for abcXY'
    with pytest.raises(GlyphsError, match=r'3 groups of faces at least .*, got 1 of 4 faces'):
        make_glyphs([face for face in faces if face.family == 'STIXGeneral'], 'abc', '')


def test_damage_is_one_sentence(tmp_path):
    arrays = {'train': np.arange(2 * 3 * 1024, dtype=np.uint8).reshape(2, 3, 1, 32, 32)}
    meta = dict(classes=list('abc'), transfer_classes=[], faces=dict(train=[{}, {}]))
    whole = write_folder(tmp_path, arrays, meta)
    read = read_meta(tmp_path)
    assert read['sha256'] == whole
    assert np.array_equal(read_split(tmp_path, read, 'train'), arrays['train'])

    damaged = arrays['train'].copy()
    damaged[0, 0, 0, 0, 0] ^= 1
    np.save(tmp_path / 'train.npy', damaged)
    with pytest.raises(GlyphsError, match=r'train\.npy is not what meta\.json says'):
        read_split(tmp_path, read, 'train')
    (tmp_path / 'train.npy').write_bytes(b'')
    with pytest.raises(GlyphsError, match=r"train\.npy can't be read"):
        read_split(tmp_path, read, 'train')

    (tmp_path / 'meta.json').write_text(json.dumps({**read, 'format': 0}))
    with pytest.raises(GlyphsError, match='must be of format 1'):
        read_meta(tmp_path)
    (tmp_path / 'meta.json').write_text('{')
    with pytest.raises(GlyphsError, match="can't be read"):
        read_meta(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(GlyphsError, match=r'holds no glyphs.*letters\.py FOLDER'):
        read_meta(tmp_path)
