//! Bounds of what a browser is asked to do, and of what it may give.

/// Longest address, bytes.
pub const BROWSER_URL_MAX: usize = 8 * 1024;
/// Most steps of one task.
pub const BROWSER_STEPS_MAX: usize = 64;
/// Longest selector, bytes.
pub const BROWSER_SELECTOR_MAX: usize = 1024;
/// Longest text that is put into a field, bytes.
pub const BROWSER_TEXT_MAX: usize = 64 * 1024;
/// Smallest and largest width and height of the window, CSS pixels.
pub const BROWSER_WINDOW: (u32, u32) = (16, 4096);
/// Width and height of the window where a task does not say.
pub const BROWSER_WINDOW_DEFAULT: (u32, u32) = (1280, 800);
/// Highest picture of a whole page, CSS pixels; what is below is left out, and that is said.
pub const BROWSER_PICTURE_MAX: u32 = 16_384;
/// Longest time of one step, milliseconds.
pub const BROWSER_STEP_MAX_MS: u64 = 10 * 60 * 1_000;
/// Time of one step where a task does not say, milliseconds.
pub const BROWSER_STEP_DEFAULT_MS: u64 = 30_000;
/// How long the browser may take until it answers at all, milliseconds.
pub const BROWSER_START_MS: u64 = 60_000;
/// Largest message of the browser, bytes; a picture or a document comes in one. Larger: the result is refused.
pub const BROWSER_MESSAGE_MAX: usize = 64 * 1024 * 1024;
/// Largest file that is downloaded, bytes.
pub const BROWSER_DOWNLOAD_MAX: u64 = 256 * 1024 * 1024;
/// Most links of a page that are told.
pub const BROWSER_LINKS_MAX: usize = 10_000;
/// Most dialogs, and most refused addresses, that are told of one task; more are counted.
pub const BROWSER_TOLD_MAX: usize = 32;
/// Most dialogs of a page: then it is given up.
pub const BROWSER_DIALOGS_MAX: u32 = 200;
/// Most origins, or patterns of origins, in a policy.
pub const BROWSER_ORIGINS_MAX: usize = 1_000;
