//! Paths of files as their process sees them, walked from the file up to the process's root.
//!
//! The text is built from its end backwards, as that is how the kernel's tree is linked. Renames that happen
//! during the walk can mix old and new names; the kernel's own lock against that is not to be had here.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use common::abi::fields::Field;
use common::abi::process::PATH_BYTES_MAX;

use crate::kernel::{address, get, load, offset};

/// Room for one path, and where its making stands.
///
/// This lies in a map, not on the stack, for the verifier's sake: it takes what is read back from there as
/// unknown, and so comes to an end after trying few cases instead of every length a path can have.
#[repr(C)]
pub(crate) struct PathBuffer {
    /// The text grows downwards from [`PATH_BYTES_MAX`]; one name has room beyond it, so that the verifier can
    /// bound every write by a mask.
    pub(crate) text: [u8; 2 * PATH_BYTES_MAX],
    at: u32,
    flags: u32,
}

/// Names and mount crossings walked at most.
const STEPS_MAX: u32 = 40;
const MASK: u32 = PATH_BYTES_MAX as u32 - 1;
const _: () = assert!(PATH_BYTES_MAX.is_power_of_two());

/// The text did not fit; its beginning is missing.
pub(crate) const CUT: u32 = 1;
/// The walk ended somewhere else than at the process's root.
pub(crate) const UNREACHABLE: u32 = 2;
/// The file's name is gone.
pub(crate) const DELETED: u32 = 4;

/// Where a walk stands.
#[repr(C)]
struct Walk {
    dentry: u64,
    mnt: u64,
    mnt_root: u64,
    root_dentry: u64,
    root_mnt: u64,
    buffer: *mut PathBuffer,
}

/// Writes the path of the kernel `struct path` at `path` to the end of the first [`PATH_BYTES_MAX`] bytes of
/// `buffer`; yields where it starts, and the bits above.
///
/// `root` is the address of the process's root `struct path`, 0 to walk to the top.
#[inline(always)]
pub(crate) fn walk(path: u64, root: u64, buffer: &mut PathBuffer) -> (u32, u32) {
    let dentry: u64 = get(path, Field::PathDentry);
    let mnt: u64 = get(path, Field::PathMnt);
    let mut walk = Walk {
        dentry,
        mnt,
        mnt_root: get(mnt, Field::VfsmountRoot),
        root_dentry: get(root, Field::PathDentry),
        root_mnt: get(root, Field::PathMnt),
        buffer,
    };
    buffer.at = PATH_BYTES_MAX as u32;
    buffer.flags = CUT;
    let pprev = address(dentry, Field::DentryHashPprev);
    if pprev != 0 && load::<u64>(pprev) == 0 && dentry != walk.mnt_root {
        buffer.flags |= DELETED;
    }
    // A helper runs the steps because the verifier would otherwise try every combination of their branches.
    // SAFETY: `step` matches what the helper calls, and `walk` outlives the call.
    unsafe {
        bpf_loop(STEPS_MAX, step as *mut _, (&raw mut walk).cast(), 0);
    }
    if buffer.at >= PATH_BYTES_MAX as u32 {
        buffer.at = PATH_BYTES_MAX as u32 - 1;
        buffer.text[PATH_BYTES_MAX - 1] = b'/';
    }
    (buffer.at, buffer.flags)
}

/// One step towards the root; yields 1 at the end.
extern "C" fn step(_: u64, walk: &mut Walk) -> u64 {
    // SAFETY: the buffer that `walk` was given, which outlives the walk and is reached by nothing else meanwhile.
    let buffer = unsafe { &mut *walk.buffer };
    if walk.dentry == walk.root_dentry && walk.mnt == walk.root_mnt {
        buffer.flags &= !CUT;
        return 1;
    }
    if walk.dentry == walk.mnt_root {
        return cross(walk, buffer);
    }
    let (parent, name, len) = entry(walk.dentry);
    if buffer.at <= len {
        return 1;
    }
    buffer.at -= len + 1;
    let start = (buffer.at & MASK) as usize;
    // SAFETY: `start` is below PATH_BYTES_MAX and `len` below 256, so both writes end within the buffer.
    unsafe {
        let to = buffer.text.as_mut_ptr().add(start);
        to.write(b'/');
        bpf_probe_read_kernel(to.add(1).cast(), len, name as *const _);
    }
    if parent == walk.dentry {
        // A file outside any directory, such as one in memory only.
        buffer.flags = (buffer.flags & !CUT) | UNREACHABLE;
        return 1;
    }
    walk.dentry = parent;
    0
}

/// Parent, name and length of the name of a directory entry.
#[inline(always)]
fn entry(dentry: u64) -> (u64, u64, u32) {
    let parent_at = offset(Field::DentryParent);
    // The usual layout is read at once: parent, hash and length, name.
    if offset(Field::DentryNameLen) == parent_at + 12 && offset(Field::DentryName) == parent_at + 16 {
        let mut words = [0u64; 3];
        // SAFETY: the destination is three words of our stack; the helper checks the source.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut words).cast(),
                24,
                address(dentry, Field::DentryParent) as *const _,
            );
        }
        // The length is the second half of the middle word in memory, whatever the byte order.
        let [_, _, _, _, a, b, c, d] = words[1].to_ne_bytes();
        return (words[0], words[2], u32::from_ne_bytes([a, b, c, d]) & 0xff);
    }
    (
        get(dentry, Field::DentryParent),
        get(dentry, Field::DentryName),
        get::<u32>(dentry, Field::DentryNameLen) & 0xff,
    )
}

/// Goes on from the root of a mount to where it is mounted.
#[inline(always)]
fn cross(walk: &mut Walk, buffer: &mut PathBuffer) -> u64 {
    // A `struct vfsmount` lies within its `struct mount` at this offset.
    let inside = offset(Field::MountMnt) as u64;
    let mount = walk.mnt - inside;
    let above: u64 = get(mount, Field::MountParent);
    if above == mount || above == 0 {
        // The top of all mounts: this process's root lies elsewhere.
        buffer.flags &= !CUT;
        if walk.root_dentry != 0 {
            buffer.flags |= UNREACHABLE;
        }
        return 1;
    }
    walk.dentry = get(mount, Field::MountMountpoint);
    walk.mnt = above + inside;
    walk.mnt_root = get(walk.mnt, Field::VfsmountRoot);
    0
}
