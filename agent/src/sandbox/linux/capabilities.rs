//! Takes every capability from this process, for good: whatever it starts has none either.

use super::{At, Failure};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits,
};

const STAGE: &str = "capabilities";

/// Drops all of them. A process that has none to begin with and may gain none is left as it is.
pub(super) fn drop_all() -> Result<(), Failure> {
    let held = capabilities(None).at(STAGE)?;
    clear_ambient_capability_set().at(STAGE)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..64 {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
                Ok(()) => {}
                // The kernel knows no capability of this number, nor of a higher one.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error).at(STAGE),
            }
        }
        // Being root means nothing any more, neither now nor after an exec.
        let bits = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        set_capabilities_secure_bits(bits).at(STAGE)?;
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).at(STAGE)
}
