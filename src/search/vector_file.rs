//! The file of a vector index: a header line that names the model, then one frame per flush.
//!
//! A frame consists of its length, the mark up to which the file is then complete, the vectors of
//! earlier frames that are forgotten, new vectors, and a hash over all of that. Frames are
//! appended; when most vectors are forgotten, a new file is written and replaces the old one.
//!
//! *Promises.* Only what was written is read: the first frame that is incomplete or fails its hash
//! ends the file, and vectors behind it are rebuilt from the journal.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use ai_factory_fold::Mark;
use ai_factory_ports::embedder::ModelIdentity;
use serde::{Deserialize, Serialize};

use super::vector_block::VectorBlock;

/// Version of the file's layout and of the chunking. A file with another number is replaced.
const FORMAT: u32 = 2;
/// Limit of the header line, in bytes.
const HEADER_BYTES_MAX: u64 = 4 * 1024;
/// Limit of a frame, in bytes: a larger length in a file is not believed.
const FRAME_BYTES_MAX: u32 = 256 * 1024 * 1024;
const HASH_BYTES: usize = 32;
const MARK_BYTES: usize = 40;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    model: String,
    dimensions: usize,
    checksum: String,
}

impl Header {
    fn line(model: &ModelIdentity) -> io::Result<Vec<u8>> {
        let header = Self {
            format: FORMAT,
            model: model.name.clone(),
            dimensions: model.dimensions,
            checksum: model.checksum.clone(),
        };
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Outcome of reading a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileState {
    /// No file.
    Nothing,
    /// Of another model, or not such a file.
    Foreign,
    /// Read to the end.
    Whole,
    /// Read up to an invalid frame.
    Cut,
}

/// The point up to which a file was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileEnd {
    /// Mark of the file up to this point.
    pub(super) mark: Mark,
    /// Length up to this point, in bytes.
    pub(super) bytes: u64,
}

/// The contents of one flush.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Frame {
    /// Mark of the file including this frame.
    pub(super) mark: Mark,
    /// New vectors.
    pub(super) block: VectorBlock,
    /// Positions of memories whose vectors are forgotten.
    pub(super) forgotten: Vec<u64>,
    /// All vectors up to this position are forgotten.
    pub(super) expired: u64,
}

/// The model of a file; `None` if there is no file, or none that can be read.
pub(super) fn model(path: &Path) -> Option<ModelIdentity> {
    let reader = BufReader::new(File::open(path).ok()?);
    header(reader).map(|(model, _)| model)
}

/// The header line, and its length in bytes.
fn header(reader: impl Read) -> Option<(ModelIdentity, u64)> {
    let mut line = Vec::new();
    BufReader::new(reader.take(HEADER_BYTES_MAX)).read_until(b'\n', &mut line).ok()?;
    let Header { format, model: name, dimensions, checksum } =
        serde_json::from_slice(&line).ok()?;
    (format == FORMAT).then_some((ModelIdentity { name, dimensions, checksum }, line.len() as u64))
}

/// Position of the last frame's mark. Only lengths and marks are read; hashes are not checked.
pub(super) fn upto(path: &Path) -> u64 {
    let seen = || {
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let (_, mut at) = header(&file)?;
        let mut upto = 0;
        loop {
            let mut start = [0; 4 + MARK_BYTES];
            file.seek(SeekFrom::Start(at)).ok()?;
            if file.read_exact(&mut start).is_err() {
                return Some(upto);
            }
            let (bytes, mark) = start.split_first_chunk::<4>()?;
            at += u64::from(u32::from_le_bytes(*bytes)) + (4 + HASH_BYTES) as u64;
            if at > length {
                return Some(upto);
            }
            upto = Mark::from_bytes(mark)?.position;
        }
    };
    seen().unwrap_or_default()
}

/// Reads the frames behind `end`, and moves `end`.
pub(super) fn read(
    path: &Path,
    model: &ModelIdentity,
    end: &mut FileEnd,
    mut visit: impl FnMut(Frame),
) -> io::Result<FileState> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FileState::Nothing),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let line = Header::line(model)?;
    let mut found = vec![0; line.len()];
    if line.len() as u64 > HEADER_BYTES_MAX
        || reader.read_exact(&mut found).is_err()
        || found != line
    {
        return Ok(FileState::Foreign);
    }
    end.bytes = end.bytes.max(line.len() as u64);
    reader.seek(SeekFrom::Start(end.bytes))?;
    while end.bytes < length {
        let Some((frame, bytes)) = next(&mut reader, length - end.bytes)? else {
            return Ok(FileState::Cut);
        };
        let Some(frame) = decode(&frame, model.dimensions) else {
            return Ok(FileState::Cut);
        };
        *end = FileEnd { mark: frame.mark, bytes: end.bytes + bytes };
        visit(frame);
    }
    Ok(FileState::Whole)
}

/// The next frame and its length in the file; `None` if it is incomplete or fails its hash.
fn next(reader: &mut impl Read, left: u64) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut length = [0; 4];
    if left < (length.len() + HASH_BYTES) as u64 {
        return Ok(None);
    }
    reader.read_exact(&mut length)?;
    let frame_bytes = u32::from_le_bytes(length);
    let bytes = u64::from(frame_bytes) + (length.len() + HASH_BYTES) as u64;
    if frame_bytes > FRAME_BYTES_MAX || bytes > left {
        return Ok(None);
    }
    let mut frame = vec![0; frame_bytes as usize];
    reader.read_exact(&mut frame)?;
    let mut hash = [0; HASH_BYTES];
    reader.read_exact(&mut hash)?;
    Ok((*blake3::hash(&frame).as_bytes() == hash).then_some((frame, bytes)))
}

fn decode(frame: &[u8], dimensions: usize) -> Option<Frame> {
    let (mark, rest) = frame.split_at_checked(MARK_BYTES)?;
    let (expired, rest) = rest.split_first_chunk::<8>()?;
    let (forgotten, rest) = rest.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let forgotten = u32::from_le_bytes(*forgotten) as usize;
    let (forgotten, rest) = rest.split_at_checked(forgotten.checked_mul(8)?)?;
    let (positions, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
    let (scales, numbers) = rest.split_at_checked(count.checked_mul(4)?)?;
    if numbers.len() != count.checked_mul(dimensions)? {
        return None;
    }
    let all = |bytes: &[u8]| -> Vec<u64> {
        bytes.as_chunks().0.iter().map(|position| u64::from_le_bytes(*position)).collect()
    };
    let block = VectorBlock::read(
        all(positions),
        scales.as_chunks().0.iter().map(|scale| f32::from_le_bytes(*scale)).collect(),
        numbers.iter().map(|number| number.cast_signed()).collect(),
    );
    let (mark, expired) = (Mark::from_bytes(mark)?, u64::from_le_bytes(*expired));
    Some(Frame { mark, block, forgotten: all(forgotten), expired })
}

/// Writes a frame at `end`, over whatever is there, and moves `end` once it is on disk.
pub(super) fn append(
    path: &Path,
    model: &ModelIdentity,
    end: &mut FileEnd,
    frame: &Frame,
) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    if end.bytes == 0 {
        let line = Header::line(model)?;
        file.set_len(0)?;
        file.write_all(&line)?;
        end.bytes = line.len() as u64;
    }
    let encoded = encode(frame)?;
    let length = u32::try_from(encoded.len()).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a frame of vectors is too large"))?;
    file.set_len(end.bytes)?;
    file.seek(SeekFrom::Start(end.bytes))?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&encoded)?;
    file.write_all(blake3::hash(&encoded).as_bytes())?;
    file.sync_data()?;
    let bytes = end.bytes + (4 + encoded.len() + HASH_BYTES) as u64;
    *end = FileEnd { mark: frame.mark, bytes };
    Ok(())
}

/// Replaces the file at `path` by one with these vectors alone, and returns its end. After a crash
/// there is either the old file or the new one.
pub(super) fn replace(
    path: &Path,
    model: &ModelIdentity,
    mark: Mark,
    blocks: impl Iterator<Item = VectorBlock>,
) -> io::Result<FileEnd> {
    let replacement = path.with_extension("new");
    match std::fs::remove_file(&replacement) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut end = FileEnd::default();
    for block in blocks {
        // Only the last frame carries a mark: the file is incomplete without it.
        append(&replacement, model, &mut end, &Frame { block, ..Frame::default() })?;
    }
    append(&replacement, model, &mut end, &Frame { mark, ..Frame::default() })?;
    std::fs::rename(&replacement, path)?;
    Ok(end)
}

fn encode(frame: &Frame) -> io::Result<Vec<u8>> {
    let Frame { mark, block, forgotten, expired } = frame;
    let count = |count: usize| u32::try_from(count).map_err(io::Error::other);
    let bytes = MARK_BYTES + 16 + forgotten.len() * 8 + block.len() * 12 + block.numbers.len();
    let mut frame = Vec::with_capacity(bytes);
    frame.extend_from_slice(&mark.to_bytes());
    frame.extend_from_slice(&expired.to_le_bytes());
    frame.extend_from_slice(&count(forgotten.len())?.to_le_bytes());
    frame.extend_from_slice(&count(block.len())?.to_le_bytes());
    frame.extend(forgotten.iter().flat_map(|position| position.to_le_bytes()));
    frame.extend(block.positions.iter().flat_map(|position| position.to_le_bytes()));
    frame.extend(block.scales.iter().flat_map(|scale| scale.to_le_bytes()));
    frame.extend(block.numbers.iter().map(|number| number.cast_unsigned()));
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelIdentity {
        ModelIdentity { name: "m".into(), dimensions: 2, checksum: "c".into() }
    }

    fn block(position: u64) -> VectorBlock {
        VectorBlock::read(vec![position, position], vec![0.5, 2.0], vec![-127, 0, 1, 127])
    }

    fn mark(position: u64) -> Mark {
        Mark { position, ..Mark::default() }
    }

    fn frame(position: u64) -> Frame {
        let forgotten = (1..position).collect();
        Frame { mark: mark(position), block: block(position), forgotten, expired: position / 2 }
    }

    fn all(path: &Path, model: &ModelIdentity) -> (FileState, FileEnd, Vec<Frame>) {
        let (mut end, mut blocks) = (FileEnd::default(), Vec::new());
        let found = read(path, model, &mut end, |frame| blocks.push(frame)).unwrap();
        (found, end, blocks)
    }

    #[test]
    fn what_was_written_is_read_up_to_the_first_byte_that_is_missing_or_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vectors");
        assert_eq!(all(&path, &model()).0, FileState::Nothing);
        let mut end = FileEnd::default();
        let mut ends = Vec::new();
        for position in 1..=3 {
            append(&path, &model(), &mut end, &frame(position)).unwrap();
            ends.push(end.bytes);
        }
        let (found, end, blocks) = all(&path, &model());
        assert_eq!(
            (found, end.mark.position, blocks),
            (FileState::Whole, 3, (1..=3).map(frame).collect())
        );
        assert_eq!((super::model(&path), upto(&path)), (Some(model()), 3));

        let whole = std::fs::read(&path).unwrap();
        for length in usize::try_from(ends[0]).unwrap()..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (found, end, blocks) = all(&path, &model());
            let expected = ends.iter().filter(|end| **end <= length as u64).count();
            assert_eq!(blocks.len(), expected, "cut at {length}");
            assert_eq!(
                found == FileState::Whole,
                ends.contains(&(length as u64)),
                "cut at {length}"
            );
            assert_eq!(end.mark.position, expected as u64);
            assert_eq!(upto(&path), expected as u64, "cut at {length}");
        }
        for at in usize::try_from(ends[0]).unwrap()..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 0x55;
            std::fs::write(&path, &wrong).unwrap();
            let (found, _, blocks) = all(&path, &model());
            let expected = ends.iter().filter(|end| **end <= at as u64).count();
            assert_eq!((found, blocks.len()), (FileState::Cut, expected), "wrong at {at}");
        }
    }

    #[test]
    fn a_frame_is_written_over_what_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vectors");
        let mut end = FileEnd::default();
        append(&path, &model(), &mut end, &frame(1)).unwrap();
        let good = end;
        append(&path, &model(), &mut end, &frame(2)).unwrap();
        end = good;
        append(&path, &model(), &mut end, &frame(9)).unwrap();
        let (found, end, blocks) = all(&path, &model());
        assert_eq!(
            (found, end.mark.position, blocks),
            (FileState::Whole, 9, vec![frame(1), frame(9)])
        );
    }

    #[test]
    fn a_file_that_replaces_another_is_complete_with_its_last_frame_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vectors");
        append(&path, &model(), &mut FileEnd::default(), &frame(1)).unwrap();
        let end = replace(&path, &model(), mark(9), [block(3), block(4)].into_iter()).unwrap();
        let (found, found_end, frames) = all(&path, &model());
        assert_eq!(
            (found, found_end.bytes, end.bytes),
            (FileState::Whole, end.bytes, found_end.bytes)
        );
        let marks: Vec<u64> = frames.iter().map(|frame| frame.mark.position).collect();
        assert_eq!(marks, [0, 0, 9]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_another_model_is_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vectors");
        append(&path, &model(), &mut FileEnd::default(), &frame(1)).unwrap();
        for other in [
            ModelIdentity { name: "n".into(), ..model() },
            ModelIdentity { dimensions: 4, ..model() },
            ModelIdentity { checksum: "d".into(), ..model() },
        ] {
            assert_eq!(all(&path, &other).0, FileState::Foreign);
        }
        std::fs::write(&path, "").unwrap();
        assert_eq!(all(&path, &model()).0, FileState::Foreign);
    }
}
