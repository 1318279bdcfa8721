//! Giving memory back to the system. An agent waits most of its life, on a machine that is not its own: what its start or a
//! task needed for a moment should not stay.

use std::fs;
use std::path::Path;

/// Gives back pages of the heap that nothing is in, and pages of the program's own code. Code that is needed comes back
/// from the page cache, at a fraction of a microsecond a page; what ran once, at the start, does not.
pub(in crate::sandbox) fn give_back() {
    // SAFETY: it takes the allocator's own locks and touches free memory only. Only the GNU allocator keeps such pages.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
    for (start, end) in code() {
        let start = std::ptr::without_provenance_mut(start);
        // SAFETY: the pages belong to a private mapping of this program's file that can be executed and not written, so
        // none differs from the file: the kernel fetches from there whatever is touched again.
        unsafe { libc::madvise(start, end - start.addr(), libc::MADV_DONTNEED) };
    }
}

/// Where the code of this program's own file is mapped, if the system says so.
fn code() -> Vec<(usize, usize)> {
    let (Ok(own), Ok(maps)) =
        (fs::read_link("/proc/self/exe"), fs::read_to_string("/proc/self/maps"))
    else {
        return Vec::new();
    };
    maps.lines().filter_map(|line| range(line, &own)).collect()
}

/// The range of a line of `/proc/PID/maps`, if it is code of that file that was never written.
fn range(line: &str, own: &Path) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    // Offset, device and inode stand between.
    let path = words.nth(3)?;
    if rights != "r-xp" || Path::new(path) != own {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of this program's code that are in memory.
    fn resident() -> u64 {
        let own = fs::read_link("/proc/self/exe").unwrap();
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut ours = false;
        let mut sum = 0;
        for line in maps.lines() {
            if line.split(' ').next().is_some_and(|word| word.contains('-')) {
                ours = range(line, &own).is_some();
            } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| ours) {
                sum += rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        sum
    }

    #[test]
    fn code_that_ran_once_does_not_stay_and_the_program_goes_on() {
        let before = resident();
        give_back();
        let after = resident();
        assert!(after < before, "{before} KiB, then {after} KiB");
        assert_eq!(format!("{:?}", vec![1.5, 2.5]), "[1.5, 2.5]");
    }

    #[test]
    fn only_code_of_the_own_file_that_was_never_written_is_taken() {
        let own = Path::new("/usr/bin/own");
        let line =
            |rights: &str, path: &str| format!("55d0-66e0 {rights} 00001000 fe:00 1234   {path}");
        assert_eq!(range(&line("r-xp", "/usr/bin/own"), own), Some((0x55d0, 0x66e0)));
        for (rights, path) in [
            ("r--p", "/usr/bin/own"),
            ("rw-p", "/usr/bin/own"),
            ("rwxp", "/usr/bin/own"),
            ("r-xp", "/lib/libc.so"),
            ("r-xp", ""),
        ] {
            assert_eq!(range(&line(rights, path), own), None, "{rights} {path}");
        }
    }
}
