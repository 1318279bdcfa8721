//! The words of the DevTools protocol, as chromiumoxide has them. What the driver says is built from its types; what the browser says is
//! read leniently: browsers are newer than any list of what they say, and hostile pages have their say in it.

pub(super) use chromiumoxide_cdp::cdp::browser_protocol::{
    browser, dom, emulation, fetch, input, inspector, network, page, target,
};
pub(super) use chromiumoxide_cdp::cdp::js_protocol::runtime;
