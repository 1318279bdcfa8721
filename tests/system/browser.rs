//! Pages of a real browser over the real tunnel: `cortex browser`, with key, journal and history, what the owner is asked, and
//! nodes that have no browser to give.

use crate::support::{Server, wait};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

/// A site with a form, a link to nowhere, and a page behind it.
fn site() -> u16 {
    const FORM: &str = "<!doctype html><title>Form</title><h1>Ask</h1><form action=/sent><input id=q name=q>\
        <input type=password id=p name=p><button id=go>go</button></form><script>alert('\\u001b[31mred')</script>";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut bytes, mut more) = (client.unwrap(), Vec::new(), [0; 4096]);
            std::thread::spawn(move || {
                while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
                    match client.read(&mut more) {
                        Ok(0) | Err(_) => return,
                        Ok(read) => bytes.extend_from_slice(&more[..read]),
                    }
                }
                let head = String::from_utf8_lossy(&bytes).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let (more, body) = match path {
                    "/" => ("", FORM.to_owned()),
                    "/file" => {
                        ("content-disposition: attachment; filename=f.bin\r\n", "bytes".to_owned())
                    }
                    "/hang" => return drop(client.read(&mut more)),
                    // What was typed comes back, so that it can be seen what of it is shown.
                    path => ("", format!("<p id=came>came {path}")),
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                client.write_all(head.as_bytes()).ok();
            });
        }
    });
    port
}

/// A server whose node opens a browser to a site.
struct Desk {
    server: Server,
    url: String,
}

impl Desk {
    #[track_caller]
    fn start(strict: &str, table: &str) -> Desk {
        let (server, port) = (Server::start(&[]), site());
        let secret = server.path("secret");
        fs::write(&secret, "correct-horse\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let host = format!("127.0.0.1:{port}");
        let policy = format!(
            "version = 1\nname = \"desk\"\nstrict = \"{strict}\"\nprograms.search = [\"/usr/bin\"]\n\
             env.secrets = {{ word = \"file:{}\" }}\nconsent = {{ channels = [\"socket\"] }}\n\
             [net.profiles.web]\nmode = \"domains\"\nallow = [\"{host}\"]\n[paths]\n{}\n",
            secret.display(),
            table.replace("$HOST", &host)
        );
        fs::write(server.data().join("agent/policy.toml"), policy).unwrap();
        Desk { server, url: format!("http://{host}") }
    }

    #[track_caller]
    fn open(strict: &str) -> Desk {
        let table = "[browser]\neffect = \"allow\"\ndownload = \"allow\"\nnet = \"web\"\norigins = [\"http://$HOST\"]";
        let desk = Desk::start(strict, table);
        wait::until("the node to offer a browser", || {
            let nodes = desk.server.nodes().iter().map(ToString::to_string).collect::<String>();
            nodes.contains("\"browser\"").then_some(())
        });
        desk
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

#[test]
fn a_page_is_a_task_with_key_journal_and_history() {
    let desk = Desk::open("off");
    let (server, url) = (&desk.server, desk.url("/"));
    let text = server.cortex(&["browser", "text", "--key", "k1", &url]).ok();
    text.says(&["Ask"]).complains(&["dialog (alert)", "\\u{1b}[31mred"]);
    server.cortex(&["browser", "html", "--key", "k1", &url]).with(125).complains(&["CX-0202"]);
    let end = server.cortex(&["browser", "text", "--json", &url]).ok().json();
    assert_eq!(
        (end["done"]["title"].as_str(), end["done"]["status"].as_u64()),
        (Some("Form"), Some(200))
    );
    assert!(end["data"].as_str().unwrap().contains("Ask"), "{end}");
    let id = end["task_id"].as_str().unwrap();
    let task = server.task(id);
    assert_eq!(task["spec"]["action"]["kind"], "browser", "{task}");
    assert_eq!(task["outcome"]["confinement"]["level"], "full", "{task}");
    assert_eq!(task["outcome"]["confinement"]["network"], "domains", "{task}");
    assert_eq!(server.events(id), ["Submitted", "Started", "Finished"]);
    server.cortex(&["task", "show", id]).ok().says(&["browser text http://127.0.0.1:"]);
    // Steps, from a file and from the command line; a secret of the node is masked in what comes back.
    let file = server.path("steps");
    fs::write(&file, "# fill it in\nfill #q = a b\n\nsecret #p = word\n").unwrap();
    let steps = ["browser", "text", &url, "--steps", file.to_str().unwrap(), "--step", "click #go"];
    server
        .cortex(&[&steps[..], &["--step", "wait #came"]].concat())
        .ok()
        .says(&["came /sent?q=a+b&p=***"]);
    let shot = server.path("page.png");
    server
        .cortex(&[
            "browser",
            "screenshot",
            "--window",
            "640x480",
            &url,
            "-o",
            shot.to_str().unwrap(),
        ])
        .ok();
    assert_eq!(
        &fs::read(&shot).unwrap()[..24],
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x02\x80\0\0\x01\xe0"
    );
    let file = server.cortex(&["browser", "download", &desk.url("/file")]).ok();
    assert_eq!(file.stdout, b"bytes");
}

#[test]
fn what_goes_wrong_has_its_own_code_and_exit_code() {
    let desk = Desk::open("off");
    let (server, url) = (&desk.server, desk.url("/"));
    let browser = |words: &[&str]| server.cortex(&[&["browser", "text"][..], words].concat());
    // No task can be made of these.
    for bad in ["file:///etc/passwd", "chrome://settings", "http://u:p@127.0.0.1/", "javascript:1"]
    {
        browser(&[bad]).with(125).complains(&["CX-1602"]);
    }
    browser(&[&url, "--step", "evaluate 1"]).with(125).complains(&["CX-1601"]);
    // The node's owner says no.
    browser(&["http://127.0.0.1:1/"]).with(126).complains(&["CX-1602", "browser.origins"]);
    // The page does.
    browser(&[&url, "--step", "fill #p = x"]).with(14).complains(&["CX-1606", "step 1"]);
    browser(&[&url, "--step", "click #none", "--step-timeout", "1s"])
        .with(12)
        .complains(&["CX-1604"]);
    browser(&[&desk.url("/hang"), "--step-timeout", "1s"]).with(11).complains(&["CX-1603"]);
    browser(&[&desk.url("/file")]).with(15).complains(&["CX-1607"]);
    browser(&[&desk.url("/hang"), "--timeout", "3s"]).with(124);
}

#[test]
fn the_owner_is_asked_before_a_password_is_filled_in_and_sees_every_step() {
    let desk = Desk::open("destructive");
    let (server, url) = (&desk.server, desk.url("/"));
    server.cortex(&["browser", "text", &url]).ok();
    let task = server.spawn(&[
        "browser",
        "text",
        &url,
        "--step",
        "secret #p = word",
        "--step",
        "click #go",
    ]);
    let dir = server.data().join("agent");
    let owner = |words: &[&str]| {
        let rest = ["--data-dir", dir.to_str().unwrap()];
        server.cortex(&[&["__agent", "consent"], &rest[..], words].concat())
    };
    let shown = wait::until("the question", || {
        let shown = owner(&["show", "1", "--all"]);
        (shown.code == 0).then(|| shown.text())
    });
    for line in ["secret #p = word", "click #go", "destructive", "goes to"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("correct-horse"), "{shown}");
    owner(&["deny", "1"]).ok();
    task.end().with(126).complains(&["CX-1202"]);
}

#[test]
fn a_page_waits_for_a_node_that_has_a_browser_to_give() {
    let desk = Desk::start("off", "");
    let open = ["browser", "text", "--deadline", "2s", &desk.url("/")];
    desk.server.cortex(&open).with(124).complains(&["waiting: ", "browser"]);
}
