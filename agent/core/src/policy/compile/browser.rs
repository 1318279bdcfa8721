//! The table `[browser]`: where a browser may go, and through which network.

use super::rule::effect;
use crate::plan::NetMode;
use crate::policy::error::PolicyError;
use crate::policy::file;
use crate::policy::rules::BrowserRules;
use cortex_model::OriginPattern;
use cortex_model::limits::browser::BROWSER_ORIGINS_MAX;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn rules(
    browser: Option<&file::Browser>,
    profiles: &BTreeMap<String, NetMode>,
) -> Result<Option<BrowserRules>, PolicyError> {
    let Some(browser) = browser else { return Ok(None) };
    let bad = |key: &str, why: String| Err(PolicyError::value(&format!("browser.{key}"), why));
    let net = match profiles.get(&browser.net) {
        None => return bad("net", format!("there is no net profile {:?}", browser.net)),
        // A page in the machine's own network would reach the agent, and whatever else trusts whoever is near.
        Some(NetMode::Full | NetMode::None) => {
            return bad("net", "a browser has a profile of mode domains or loopback".to_owned());
        }
        Some(net @ (NetMode::Domains { .. } | NetMode::Loopback { .. })) => net.clone(),
    };
    if browser.origins.len() > BROWSER_ORIGINS_MAX {
        return bad("origins", format!("at most {BROWSER_ORIGINS_MAX} entries"));
    }
    let mut origins = BTreeSet::new();
    for text in &browser.origins {
        match OriginPattern::parse(text) {
            Ok(pattern) => drop(origins.insert(pattern)),
            Err(why) => return bad("origins", why),
        }
    }
    Ok(Some(BrowserRules {
        effect: effect(browser.effect),
        download: effect(browser.download),
        net,
        origins: origins.into_iter().collect(),
    }))
}
