//! The private root: a small file tree in memory with the system's programs bound into it,
//! read-only.
//!
//! *Promises.* It holds nothing of the machine but the directories named here. Everything except
//! `/box`, `/tmp` and `/dev/shm` is read-only, including every mount below a bound directory.
//! Set-user-id bits and devices have no effect, except the five device files.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::symlink},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
        mount_change, mount_remount, unmount,
    },
};

use super::{
    super::layer::IsolationLayer,
    message::{JailFailure, Setup},
};

/// Working directory of programs.
pub(crate) const BOX: &str = "/box";
/// The link to the directory of JavaScript packages.
pub(crate) const NODE_MODULES: &str = "/node_modules";
/// Writable directories of a run.
pub(super) const WRITABLE: [&str; 3] = [BOX, "/tmp", "/dev/shm"];
/// System directories, where they exist; as links where they are links.
pub(super) const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];
/// Links to the programs of a Debian system; holds links only.
const ALTERNATIVES: &str = "/etc/alternatives";
/// The device files.
pub(super) const DEVICES: [&str; 5] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Links that programs expect next to them.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
/// Candidates for the mount point under construction: directories that exist on every machine and
/// are covered while the root is built.
const STAGES: [&str; 4] = ["/tmp", "/run", "/mnt", "/proc"];
/// The root itself holds directories, links, and a few small files.
const ROOT_OPTIONS: &str = "size=1m,nr_inodes=512,mode=0755";

type Result<T> = std::result::Result<T, JailFailure>;

fn failed(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> JailFailure {
    move |error| JailFailure::of(IsolationLayer::PrivateRoot, what, error)
}

/// Where the root is built.
struct RootBuilder(PathBuf);

impl RootBuilder {
    /// The temporary location of `path` of the new root.
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Builds the root and enters it; the working directory becomes [`BOX`].
pub(super) fn enter(setup: &Setup) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(io::Error::from)
        .map_err(failed("making the mounts private"))?;
    // Must precede the stage, which may cover one of them.
    let sources = sources(setup)?;
    let stage = STAGES.iter().map(PathBuf::from).find(|stage| stage.is_dir());
    let stage = RootBuilder(stage.ok_or_else(|| {
        failed("looking for a directory")(io::Error::from(io::ErrorKind::NotFound))
    })?);
    tmpfs(&stage.0, ROOT_OPTIONS)?;
    own_directories(&stage, setup)?;
    // After the system directories: an interpreter's directory may be below one of those.
    for source in sources {
        source.mount(&stage)?;
    }
    write_etc(&stage, setup.identity.id()).map_err(failed("writing /etc"))?;
    devices(&stage)?;
    proc(&stage)?;
    seal(&stage)?;
    pivot(&stage)
}

/// Without a private root, for tests: covers a directory of the machine with a private one.
pub(super) fn cover(path: &str, setup: &Setup) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(io::Error::from)
        .map_err(failed("making the mounts private"))?;
    let id = setup.identity.id();
    let bytes = setup.limits.box_bytes;
    tmpfs(Path::new(path), &format!("size={bytes},mode=0755,uid={id},gid={id}"))?;
    std::env::set_current_dir(path).map_err(failed(path))
}

/// A part of the machine that is made visible in the new root.
enum MountSource {
    Link { at: PathBuf, to: PathBuf },
    Directory { at: PathBuf, held: OwnedFd },
}

fn sources(setup: &Setup) -> Result<Vec<MountSource>> {
    let mut found = Vec::new();
    for path in SYSTEM.iter().chain([&ALTERNATIVES]).map(PathBuf::from) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_symlink() {
            let to = fs::read_link(&path).map_err(failed(path.display()))?;
            found.push(MountSource::Link { at: path, to });
        } else {
            found.push(MountSource::directory(path)?);
        }
    }
    // Both `require` and `import` look there, from every directory.
    if let Some(to) = &setup.interpreter.node_modules {
        found.push(MountSource::Link { at: PathBuf::from(NODE_MODULES), to: to.clone() });
    }
    let mut prefixes = setup.interpreter.prefixes.clone();
    prefixes.sort();
    for prefix in prefixes {
        let is_there = |it: &MountSource| matches!(it, MountSource::Directory { at, .. } if prefix.starts_with(at));
        if !found.iter().any(is_there) {
            found.push(MountSource::directory(prefix)?);
        }
    }
    Ok(found)
}

impl MountSource {
    fn directory(at: PathBuf) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = open(&at, flags, Mode::empty()).map_err(io::Error::from);
        let held = held.map_err(failed(format_args!("opening {}", at.display())))?;
        Ok(Self::Directory { at, held })
    }

    fn mount(self, stage: &RootBuilder) -> Result<()> {
        match self {
            Self::Link { at, to } => {
                symlink(to, stage.at(&at)).map_err(failed(format_args!("linking {}", at.display())))
            }
            Self::Directory { at, held } => {
                let target = stage.at(&at);
                let bound = fs::create_dir_all(&target).and_then(|()| {
                    let source = format!("/proc/self/fd/{}", held.as_raw_fd());
                    Ok(mount_bind_recursive(source, &target)?)
                });
                bound.map_err(failed(format_args!("binding {}", at.display())))
            }
        }
    }
}

fn tmpfs(at: &Path, options: &str) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = CString::new(options)
        .map_err(io::Error::from)
        .and_then(|options| Ok(mount("tmpfs", at, "tmpfs", flags, options.as_c_str())?));
    mounted.map_err(failed(format_args!("mounting a tmpfs ({options})")))
}

/// The few files of `/etc` that programs read.
fn write_etc(stage: &RootBuilder, id: u32) -> io::Result<()> {
    fs::create_dir_all(stage.at("/etc"))?;
    let files = [
        ("/etc/passwd", format!("runner:x:{id}:{id}:runner:{BOX}:/bin/sh\n")),
        ("/etc/group", format!("runner:x:{id}:\n")),
        ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
        ("/etc/resolv.conf", String::new()),
    ];
    for (path, content) in files {
        fs::write(stage.at(path), content)?;
    }
    // Library look-up outside the usual directories.
    if let Ok(cache) = fs::read("/etc/ld.so.cache") {
        fs::write(stage.at("/etc/ld.so.cache"), cache)?;
    }
    Ok(())
}

fn devices(stage: &RootBuilder) -> Result<()> {
    fs::create_dir_all(stage.at("/dev")).map_err(failed("making /dev"))?;
    for device in DEVICES {
        let target = stage.at(device);
        let bound = fs::write(&target, []).and_then(|()| {
            mount_bind(device, &target)?;
            let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NOEXEC;
            Ok(mount_remount(&target, flags, "")?)
        });
        bound.map_err(failed(format_args!("binding {device}")))?;
    }
    for (link, to) in DEVICE_LINKS {
        symlink(to, stage.at(link)).map_err(failed(format_args!("linking {link}")))?;
    }
    Ok(())
}

/// The writable directories of the run, each with its own size limit.
fn own_directories(stage: &RootBuilder, setup: &Setup) -> Result<()> {
    let (limits, id) = (&setup.limits, setup.identity.id());
    for path in WRITABLE {
        let (bytes, inodes) = match path {
            BOX => (limits.box_bytes, limits.box_inodes),
            _ => (limits.tmp_bytes, limits.tmp_inodes),
        };
        let target = stage.at(path);
        fs::create_dir_all(&target).map_err(failed(format_args!("making {path}")))?;
        // The directory itself takes one inode.
        let inodes = inodes.saturating_add(1);
        tmpfs(&target, &format!("size={bytes},nr_inodes={inodes},mode=0755,uid={id},gid={id}"))?;
    }
    Ok(())
}

/// Mounts `/proc`: it shows the processes of the jail and nothing of the machine.
fn proc(stage: &RootBuilder) -> Result<()> {
    let target = stage.at("/proc");
    fs::create_dir_all(&target).map_err(failed("making /proc"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", &target, "proc", flags, c"subset=pid")
        .map_err(io::Error::from)
        .map_err(failed("mounting /proc"))
}

/// Makes every mount read-only except the writable directories.
fn seal(stage: &RootBuilder) -> Result<()> {
    let table = fs::read("/proc/self/mountinfo").map_err(failed("reading the mounts"))?;
    let writable: Vec<PathBuf> = WRITABLE.iter().map(|path| stage.at(path)).collect();
    let devices: Vec<PathBuf> = DEVICES.iter().map(|path| stage.at(path)).collect();
    for line in mounts(&table) {
        if !line.is_new(stage) || writable.contains(&line.point) || devices.contains(&line.point) {
            continue;
        }
        let flags = line.flags | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(&line.point, flags | MountFlags::BIND, "")
            .map_err(io::Error::from)
            .map_err(failed(format_args!("making {} read-only", line.point.display())))?;
    }
    Ok(())
}

/// A line of `/proc/self/mountinfo`.
struct MountLine {
    point: PathBuf,
    flags: MountFlags,
}

impl MountLine {
    /// Whether it belongs to the new root and is not merely covered by the stage.
    fn is_new(&self, stage: &RootBuilder) -> bool {
        fs::symlink_metadata(&self.point).is_ok() && self.point.starts_with(&stage.0)
    }
}

/// The mounts of a table, with the flags that a remount must preserve.
fn mounts(table: &[u8]) -> impl Iterator<Item = MountLine> + '_ {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = unescape(fields.nth(4)?);
        let mut flags = MountFlags::empty();
        for option in fields.next()?.split(|byte| *byte == b',') {
            flags |= match option {
                b"ro" => MountFlags::RDONLY,
                b"nosuid" => MountFlags::NOSUID,
                b"nodev" => MountFlags::NODEV,
                b"noexec" => MountFlags::NOEXEC,
                b"noatime" => MountFlags::NOATIME,
                b"nodiratime" => MountFlags::NODIRATIME,
                b"relatime" => MountFlags::RELATIME,
                b"nosymfollow" => MountFlags::NOSYMFOLLOW,
                _ => MountFlags::empty(),
            };
        }
        Some(MountLine { point, flags })
    })
}

/// A path of the table: white space and backslashes are written as octal escapes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Makes the stage the root and detaches the old one.
fn pivot(stage: &RootBuilder) -> Result<()> {
    let pivoted = std::env::set_current_dir(&stage.0).and_then(|()| {
        // The old root is stacked over the new one for a moment, so it needs no directory there.
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        std::env::set_current_dir(BOX)
    });
    pivoted.map_err(failed("changing the root"))
}

/// Verifies from inside that every mount writable for a program is one of the intended ones.
pub(super) fn verify() -> Result<()> {
    // The jail's own `/proc` shows its mounts.
    let table = fs::read("/proc/self/mountinfo").map_err(failed("reading the mounts"))?;
    for line in mounts(&table) {
        let may_write = WRITABLE.iter().chain(&DEVICES).any(|path| line.point == Path::new(path));
        if !may_write && !line.flags.contains(MountFlags::RDONLY) {
            let message = format!("{} can be written to", line.point.display());
            return Err(JailFailure { layer: Some(IsolationLayer::PrivateRoot), message });
        }
        if !line.flags.contains(MountFlags::NOSUID) {
            let message = format!("set-user-id bits count in {}", line.point.display());
            return Err(JailFailure { layer: Some(IsolationLayer::PrivateRoot), message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_mounts_is_read_with_its_flags_and_odd_names() {
        let table = b"25 1 0:22 / / rw,relatime shared:1 - ext4 /dev/sda rw\n\
            26 25 0:23 / /a\\040b\\134c ro,nosuid,nodev,noexec,noatime - tmpfs x rw\n";
        let lines: Vec<_> = mounts(table).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].point, Path::new("/"));
        assert_eq!(lines[0].flags, MountFlags::RELATIME);
        assert_eq!(lines[1].point, Path::new("/a b\\c"));
        let all = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        assert_eq!(lines[1].flags, all | MountFlags::NOEXEC | MountFlags::NOATIME);
    }
}
