//! Pages in a real browser in a real sandbox: what they can be asked for. Every plan is decided by the owner's policy as in life.

mod hostile;

use crate::support::*;
use crate::web::{Site, page};
use cortex_agent::browser::{Broken, Page, Told};
use cortex_agent::facts::{Scene, gather};
use cortex_agent_core::plan::{Operation, ProcessPlan};
use cortex_agent_core::policy::{Machine, Policy, Request, decide};
use cortex_model::{
    Action, AttemptKey, BrowserAction, BrowserResult, BrowserStep, TaskId, TaskKey, Workspace,
    proto as pb,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// What came of a page.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) told: Told,
}

impl Came {
    #[track_caller]
    fn done(self) -> (String, Page) {
        match self.told {
            Told::Done(page) if self.code == 0 => {
                (String::from_utf8_lossy(&self.out).into_owned(), *page)
            }
            told @ (Told::Done(_) | Told::Error(_)) => panic!("{} {told:?}", self.code),
        }
    }

    #[track_caller]
    fn failed(self, code: &str) -> Broken {
        match self.told {
            Told::Error(broken) if broken.failed.code == code && self.code != 0 => *broken,
            told @ (Told::Done(_) | Told::Error(_)) => {
                panic!("not {code}: {} {told:?} {}", self.code, String::from_utf8_lossy(&self.out))
            }
        }
    }
}

/// A policy that lists these addresses, each with its port, as network of a browser, and opens these origins to it.
fn policy_of(net: &[String], origins: &[String], more: &str) -> Policy {
    let origins: Vec<String> = origins.iter().map(|host| format!("\"http://{host}\"")).collect();
    let net: Vec<String> = net.iter().map(|host| format!("{host:?}")).collect();
    let text = format!(
        "version = 1\nstrict = \"off\"\nprograms = {{ search = [] }}\n{more}\n\
         [net.profiles.web]\nmode = \"domains\"\nallow = [{}]\n\
         [paths]\n\
         [browser]\neffect = \"allow\"\ndownload = \"allow\"\nnet = \"web\"\norigins = [{}]\n",
        net.join(", "),
        origins.join(", ")
    );
    Policy::parse(&text, String::new()).unwrap()
}

/// The same for sites of the machine.
fn policy(sites: &[&Site]) -> Policy {
    let hosts: Vec<String> = sites.iter().map(|site| host(site)).collect();
    policy_of(&hosts, &hosts, "")
}

fn host(site: &Site) -> String {
    format!("127.0.0.1:{}", site.port)
}

fn text() -> BrowserResult {
    BrowserResult::Text(pb::BrowserText::default())
}

fn action(url: &str, result: BrowserResult) -> BrowserAction {
    BrowserAction {
        url: url.to_owned(),
        steps: Vec::new(),
        result,
        window: (0, 0),
        step_timeout_ms: 20_000,
    }
}

/// The plan that the policy makes of it.
fn plan(room: &Room, policy: &Policy, action: &BrowserAction) -> ProcessPlan {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let tmpdir: PathBuf = room.root.join(format!("task-{number}"));
    let machine = Machine {
        level: room.armed().level,
        features: room.armed().features(),
        exact_limits: room.sandbox.exact_limits(),
        cpus: 2,
    };
    let scene = Scene { tmpdir, mark: "mark".to_owned(), machine };
    let action = Action::Browser(Box::new(action.clone()));
    let facts = gather(policy, &action, &scene);
    let task = TaskKey {
        workspace: Workspace::default_workspace(),
        task: TaskId::parse(&format!("t{number}")).unwrap(),
    };
    let key = AttemptKey { task, attempt: 1 };
    let request = Request {
        key: &key,
        fence: 1,
        action: &action,
        timeout_ms: 80_000,
        output_limit: 1 << 30,
        consent: None,
    };
    let decision = decide(policy, &facts, &request);
    let plan = decision.plan.unwrap_or_else(|| panic!("{:?} {:?}", decision.fault, decision.trail));
    match plan.operation() {
        Operation::Process(process) => process.as_ref().clone(),
        Operation::Echo(_) => unreachable!(),
    }
}

pub(crate) async fn came(room: &Room, plan: &ProcessPlan) -> Came {
    let ran = room.run(plan).await;
    assert_eq!(ran.remains.survivors, 0);
    assert!(!plan.tmp.path().exists(), "what the browser kept is still there");
    let last = ran.err.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
    let told = serde_json::from_str(last);
    let told = told.unwrap_or_else(|err| panic!("{err}: {:?} {}", ran.end, ran.err));
    Came { code: ran.code(), out: ran.raw, told }
}

async fn open(room: &Room, policy: &Policy, action: &BrowserAction) -> Came {
    came(room, &plan(room, policy, action)).await
}

fn goto(url: String) -> BrowserStep {
    BrowserStep::Goto(pb::BrowserGoto { url })
}

fn click(selector: &str) -> BrowserStep {
    BrowserStep::Click(pb::BrowserClick { selector: selector.into() })
}

fn fill(selector: &str, text: &str) -> BrowserStep {
    let (selector, text) = (selector.into(), text.into());
    BrowserStep::Fill(pb::BrowserFill { selector, text, ..Default::default() })
}

fn wait(selector: &str) -> BrowserStep {
    let selector = pb::browser_wait::For::Selector(selector.into());
    BrowserStep::Wait(pb::BrowserWait { r#for: Some(selector) })
}

fn with(mut action: BrowserAction, steps: Vec<BrowserStep>) -> BrowserAction {
    action.steps = steps;
    action
}

const HELLO: &str = "<!doctype html><title>A title</title><h1>Hello</h1><p id=p>there</p>\
    <script>document.body.append('made by a script');console.error('x');null.x</script>\
    <a href='/next?a=1#b'>next</a><a href='https://example.com/'>away</a><div style='height:3000px'></div>";

/// Width and height of a PNG.
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test]
async fn a_page_gives_what_it_is_asked_for() {
    let site = Site::new(&[("/", page(HELLO))]);
    for who in everybody() {
        let room = Room::new(who).await;
        let policy = policy(&[&site]);
        let ask = async |result: BrowserResult| {
            open(&room, &policy, &action(&site.url("/"), result)).await
        };
        let (said, told) = ask(text()).await.done();
        assert!(said.contains("Hello") && said.contains("made by a script"), "{who:?} {said}");
        assert_eq!((told.title.as_str(), told.status), ("A title", 200), "{told:?}");
        assert_eq!((told.url, told.bytes), (site.url("/"), said.len() as u64));
        assert_eq!(told.console_errors, 2);
        assert!(told.browser.starts_with("Chrome/"), "{}", told.browser);
        let selector = BrowserResult::Text(pb::BrowserText { selector: "#p".into() });
        assert_eq!(ask(selector).await.done().0, "there");
        let (said, _) = ask(BrowserResult::Html(pb::BrowserHtml::default())).await.done();
        assert!(said.starts_with("<!DOCTYPE html>\n<html>") && said.contains("<h1>Hello</h1>"));
        let (said, _) = ask(BrowserResult::Links(pb::BrowserLinks::default())).await.done();
        let links: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(links.len(), 2, "{said}");
        assert_eq!(links[0]["href"], site.url("/next?a=1#b"));
        assert_eq!(links[1]["text"], "away");
        let shot = |full_page| BrowserResult::Screenshot(pb::BrowserScreenshot { full_page });
        assert_eq!(size(&ask(shot(false)).await.out), (1280, 800));
        let (width, height) = size(&ask(shot(true)).await.out);
        assert!(width == 1280 && height > 3000, "{width} {height}");
        let pdf = ask(BrowserResult::Pdf(pb::BrowserPdf::default())).await;
        assert!(pdf.out.starts_with(b"%PDF-"), "{:?}", pdf.told);
    }
}

const FORM: &str = "<!doctype html><form action=/sent><input id=a name=a><select id=s name=s><option value=1>one\
    <option value=2>two</select><textarea id=t name=t>old</textarea><input type=password id=p name=p>\
    <button id=go>go</button></form><button id=late onclick=\"setTimeout(() => document.body.insertAdjacentHTML(\
    'beforeend', '<p id=came>came</p>'), 50)\">late</button>";

#[tokio::test]
async fn steps_are_done_in_order_and_what_they_lead_to_is_waited_for() {
    let site = Site::new(&[
        ("/", page(FORM)),
        ("/sent?a=first+x&s=2&t=new&p=", page("<p>thank you")),
        ("/sent?a=typed&s=1&t=old&p=", page("<p>by key")),
    ]);
    for who in everybody() {
        let room = Room::new(who).await;
        let policy = policy(&[&site]);
        let begin = || action(&site.url("/"), text());
        let press = |key: &str| BrowserStep::Press(pb::BrowserPress { key: key.into() });
        let steps = vec![fill("#a", "first x"), fill("#s", "two"), fill("#t", "new"), click("#go")];
        let (said, told) = open(&room, &policy, &with(begin(), steps)).await.done();
        assert_eq!(said.trim(), "thank you", "{who:?} {told:?} {:?}", site.asked());
        let keys = "typed".chars().map(|c| press(&c.to_string()));
        let steps = std::iter::once(click("#a")).chain(keys).chain([press("Enter")]).collect();
        assert_eq!(open(&room, &policy, &with(begin(), steps)).await.done().0.trim(), "by key");
        let steps = vec![click("#late"), wait("#came")];
        let (said, _) = open(&room, &policy, &with(begin(), steps)).await.done();
        assert!(said.contains("came"), "{said}");
        let mut never = with(begin(), vec![click("#a"), wait("#never")]);
        never.step_timeout_ms = 1_500;
        let broken = open(&room, &policy, &never).await.failed("CX-1604");
        assert_eq!(broken.step, Some(2), "{broken:?}");
        let odd = with(begin(), vec![click("###")]);
        assert_eq!(open(&room, &policy, &odd).await.failed("CX-1604").step, Some(1));
        let none = with(begin(), vec![fill("#go", "x")]);
        open(&room, &policy, &none).await.failed("CX-1604");
    }
}

#[tokio::test]
async fn a_field_for_a_password_is_filled_only_by_who_says_so_and_a_secret_stays_on_the_node() {
    let site = Site::new(&[("/", page(FORM)), ("/sent?a=&s=1&t=old&p=hunter22", page("in"))]);
    for who in everybody() {
        let room = Room::new(who).await;
        let secret = room.root.join("secret");
        std::fs::write(&secret, "hunter22\n").unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let own = [host(&site)];
        let policy = policy_of(
            &own,
            &own,
            &format!("env.secrets = {{ word = \"file:{}\" }}", secret.display()),
        );
        let begin = || action(&site.url("/"), text());
        let plain = with(begin(), vec![fill("#p", "hunter22")]);
        let broken = open(&room, &policy, &plain).await.failed("CX-1606");
        assert_eq!(broken.step, Some(1));
        let declared = pb::BrowserFill {
            selector: "#p".into(),
            text: "hunter22".into(),
            sensitive: true,
            ..Default::default()
        };
        let by_name =
            pb::BrowserFill { selector: "#p".into(), secret: "word".into(), ..Default::default() };
        for filled in [declared, by_name] {
            let action = with(begin(), vec![BrowserStep::Fill(filled), click("#go")]);
            assert_eq!(open(&room, &policy, &action).await.done().0, "in", "{who:?}");
        }
    }
}
