//! What hostile pages get, and what the browsers of two tasks know of each other. Each row with a control.

use super::*;
use cortex_agent::sandbox::End;
use cortex_agent_core::plan::Work;

/// Waits until a site was asked for a path.
async fn asked(site: &Site, path: &str) {
    within(path, site.hears_of(path)).await;
}

/// The browser's main process of a task, and the processes of pages below it.
fn processes(plan: &ProcessPlan) -> (i32, Vec<i32>) {
    let word = format!("--user-data-dir={}", plan.tmp.path().join("profile").display());
    let of = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let parent = |pid: i32| -> i32 {
        let stat = of(pid, "stat").unwrap_or_default();
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        rest.split(' ').nth(1).and_then(|ppid| ppid.parse().ok()).unwrap_or(0)
    };
    let carriers = processes_of(&word);
    let main = carriers.iter().find(|pid| !carriers.contains(&parent(**pid)));
    let main = *main.expect("the browser runs");
    let below = |pid: i32| {
        std::iter::successors(Some(pid), |pid| Some(parent(*pid)).filter(|pid| *pid > 1))
            .any(|pid| pid == main)
    };
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // They write their command line anew, in one piece.
    let renders =
        |pid: &i32| of(*pid, "cmdline").is_ok_and(|line| line.contains("--type=renderer"));
    let pages: Vec<i32> = pids.filter(|pid| renders(pid) && below(*pid)).collect();
    assert!(!pages.is_empty(), "no process of a page");
    (main, pages)
}

/// What stands in a view of its own, and what a page could say of it.
const PASSWD: &str = "file:///etc/passwd";

/// Pages that want what they must not get: files, pages of the browser itself, and the server at `reach`, whose port is `near`.
fn hostile_site(reach: &str, near: u16) -> Site {
    let hostile = format!(
        "<p>page</p><iframe src='{PASSWD}'></iframe><iframe src='chrome://settings'></iframe>\
         <iframe src='{reach}'></iframe><img src='{reach}'><object data='{PASSWD}'></object>\
         <embed src='{PASSWD}'><link rel=stylesheet href='{PASSWD}'>\
         <script>\
         for (const url of ['{PASSWD}', '{reach}', 'http://127.0.0.1:3128/', 'http://[::1]:{0}/', 'http://localhost:{0}/'])\
           fetch(url, {{mode: 'no-cors'}}).then((r) => r.text()).then((t) => t && document.body.append('GOT ' + t), () => 0);\
         new WebSocket('ws://127.0.0.1:{0}/json/version').onopen = () => document.body.append('GOT socket');\
         window.open('{PASSWD}'); window.open('chrome://settings');\
         setTimeout(() => document.body.insertAdjacentHTML('beforeend', '<p id=end>end'), 700);\
         </script>",
        near
    );
    let to = |url: &str| page(&format!("<p>page</p><script>location = '{url}'</script>"));
    let meta =
        |url: &str| page(&format!("<p>page</p><meta http-equiv=refresh content='0;url={url}'>"));
    let away = |url: &str| (format!("location: {url}\r\n"), Vec::new());
    Site::new(&[
        ("/", page(&hostile)),
        ("/to-file", to(PASSWD)),
        ("/to-chrome", to("chrome://settings")),
        ("/to-source", to("view-source:http://127.0.0.1:$PORT/")),
        ("/to-near", to(reach)),
        ("/meta-file", meta(PASSWD)),
        ("/meta-near", meta(reach)),
        ("/away-file", away(PASSWD)),
        ("/away-chrome", away("chrome://settings")),
        ("/away-near", away(reach)),
        (
            "/link",
            page(&format!(
                "<a id=f href='{PASSWD}'>f</a> <a id=b target=_blank href='{reach}'>b</a> page"
            )),
        ),
    ])
}

#[tokio::test]
async fn neither_files_nor_the_browsers_own_pages_nor_the_machines_loopback_can_be_opened() {
    // What trusts whoever is near: the agent, a router, another task's server.
    let near = Site::new(&[("/json/version", page("the machine's own"))]);
    let reach = format!("http://127.0.0.1:{}/json/version", near.port);
    let site = hostile_site(&reach, near.port);
    for who in everybody() {
        let room = Room::new(who).await;
        let policy = policy(&[&site]);
        let page_of = |path: &str| action(&site.url(path), text());
        let silent = |what: &str, said: &str| {
            assert!(!said.contains("root:") && !said.contains("GOT"), "{who:?} {what}: {said}");
            assert!(near.asked().is_empty(), "{who:?} {what}: {:?}", near.asked());
        };
        let (said, told) =
            open(&room, &policy, &with(page_of("/"), vec![wait("#end")])).await.done();
        assert!(said.contains("page"), "{said}");
        silent("/", &said);
        assert!(told.refused.iter().any(|refused| refused.url == reach), "{told:?}");
        for path in ["/to-file", "/to-chrome", "/to-source", "/to-near", "/meta-file", "/meta-near"]
        {
            let (said, _) = open(&room, &policy, &page_of(path)).await.done();
            assert_eq!(said.trim(), "page", "{who:?} {path}");
            silent(path, &said);
        }
        for (path, code) in
            [("/away-file", "CX-1603"), ("/away-chrome", "CX-1603"), ("/away-near", "CX-1602")]
        {
            let came = open(&room, &policy, &page_of(path)).await;
            silent(path, &String::from_utf8_lossy(&came.out));
            came.failed(code);
        }
        for link in ["#f", "#b"] {
            let (said, told) =
                open(&room, &policy, &with(page_of("/link"), vec![click(link)])).await.done();
            assert!(said.contains("page"), "{said} {told:?}");
            silent(link, &said);
        }
        // What no task can say, the driver does not do either when it is told.
        for url in [
            PASSWD,
            "chrome://settings",
            "javascript:document.write('GOT')",
            "http://u:p@127.0.0.1/",
        ] {
            let mut plan = plan(&room, &policy, &page_of("/"));
            let Some(Work::Browser(work)) = plan.work.as_deref_mut() else { unreachable!() };
            work.action.url = url.to_owned();
            came(&room, &plan).await.failed("CX-1602");
        }
        // The control: it is reached by whoever is allowed to.
        let both = policy_of(&[host(&site), host(&near)], &[host(&site), host(&near)], "");
        let (said, _) = open(&room, &both, &page_of("/away-near")).await.done();
        assert_eq!(said, "the machine's own", "{who:?}: the control");
        near.forget();
    }
}

#[tokio::test]
async fn a_name_that_is_turned_to_the_machines_loopback_is_not_opened() {
    let site = Site::new(&[("/", page("inside"))]);
    let name = format!("localhost:{}", site.port);
    for who in everybody() {
        let room = Room::new(who).await;
        // The owner lists the name, and it leads to this machine, as one does that was turned.
        let both = [host(&site), name.clone()];
        let policy = policy_of(&both, &both, "");
        let came = open(&room, &policy, &action(&format!("http://{name}/"), text())).await;
        assert!(!String::from_utf8_lossy(&came.out).contains("inside"));
        came.failed("CX-1603");
        assert!(site.asked().is_empty(), "{who:?} {:?}", site.asked());
        let (said, _) = open(&room, &policy, &action(&site.url("/"), text())).await.done();
        assert_eq!(said, "inside", "{who:?}: the control");
        site.forget();
    }
}

#[tokio::test]
async fn a_browser_without_its_driver_finds_no_file_of_the_machine_in_its_view() {
    for who in everybody() {
        let room = Room::new(who).await;
        let site = Site::new(&[]);
        let mut plan = plan(&room, &policy(&[&site]), &action(&site.url("/"), text()));
        let tmp = plan.tmp.path().display().to_string();
        let browser = plan.program.display().to_string();
        plan.argv = ["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/null", &browser]
            .into_iter()
            .chain(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .chain([format!("--user-data-dir={tmp}/profile").as_str(), "--dump-dom", PASSWD])
            .map(|word| word.as_bytes().to_vec())
            .collect();
        plan.env = vec![("HOME".to_owned(), tmp.clone().into_bytes())];
        (plan.program, plan.files, plan.work) = ("/bin/sh".into(), Vec::new(), None);
        let said = room.run(&plan).await.out;
        assert!(!said.contains("root:"), "{who:?}: {said}");
        plan.view.read.push("/etc".into());
        let said = room.run(&plan).await.out;
        assert!(said.contains("root:"), "{who:?}: the control: {said}");
    }
}

#[tokio::test]
async fn a_browser_listens_nowhere() {
    let site = Site::new(&[("/", ("x-endless: yes\r\n".to_owned(), b"<p>begun".to_vec()))]);
    for who in everybody() {
        let room = Room::new(who).await;
        let plan = plan(&room, &policy(&[&site]), &action(&site.url("/"), text()));
        let mut task = room.sandbox.launch(&plan).unwrap();
        let heard = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                () = asked(&site, "/") => {}
                end = task.ended() => panic!("{end:?}"),
            }
        });
        heard.await.unwrap();
        let (main, _) = processes(&plan);
        let mut listening = Vec::new();
        for table in ["tcp", "tcp6"] {
            let text = std::fs::read_to_string(format!("/proc/{main}/net/{table}")).unwrap();
            let fields =
                text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
            let open = fields.filter(|fields| fields.get(3) == Some(&"0A"));
            listening.extend(open.map(|fields| fields[1].to_owned()));
        }
        // The agent's proxy, and nothing else.
        assert_eq!(listening, ["0100007F:0C38"], "{who:?}");
        assert_eq!(task.clean_up().await.survivors, 0);
        site.forget();
    }
}

const SET: &str = "<script>(async () => {
    document.cookie = 'own=one; max-age=1000';
    localStorage.own = 'one';
    await new Promise((done) => { const db = indexedDB.open('own'); db.onsuccess = db.onerror = done; });
    await (await caches.open('own')).put('/cached', new Response('one'));
    await navigator.serviceWorker.register('/worker.js');
    await navigator.serviceWorker.ready;
    document.body.insertAdjacentHTML('beforeend', '<p id=set>set');
    })()</script>";

const SEE: &str = "<p id=seen></p><script>(async () => {
    const all = [document.cookie, localStorage.own || '',
        (await indexedDB.databases()).map((db) => db.name).join(), (await caches.keys()).join(),
        (await navigator.serviceWorker.getRegistrations()).length];
    document.getElementById('seen').textContent = all.join('|');
    document.body.insertAdjacentHTML('beforeend', '<i id=end></i>');
    })()</script>";

#[tokio::test]
async fn two_tasks_on_one_site_know_nothing_of_each_other_and_nothing_stays() {
    let script = ("content-type: text/javascript\r\n".to_owned(), b"onfetch = () => 0".to_vec());
    let file = (
        "content-type: application/octet-stream\r\ncontent-disposition: attachment; filename=x.bin\r\n".to_owned(),
        b"\x00\xffbytes".to_vec(),
    );
    let site = Site::new(&[
        (
            "/set",
            (
                "content-type: text/html\r\nset-cookie: other=two; HttpOnly; Max-Age=1000\r\n"
                    .to_owned(),
                SET.into(),
            ),
        ),
        ("/see", page(SEE)),
        ("/worker.js", script),
        ("/file", file),
        ("/hold", ("x-endless: yes\r\n".to_owned(), b"<p>held".to_vec())),
    ]);
    for who in everybody() {
        let room = Room::new(who).await;
        let policy = policy(&[&site]);
        let see = || with(action(&site.url("/see"), text()), vec![wait("#end")]);
        let set = || action(&site.url("/set"), text());
        let own = with(set(), vec![wait("#set"), goto(site.url("/see")), wait("#end")]);
        let (said, _) = open(&room, &policy, &own).await.done();
        assert_eq!(said.trim(), "own=one|one|own|own|1", "{who:?}: the control");
        let mut held = with(set(), vec![wait("#set"), goto(site.url("/hold"))]);
        held.step_timeout_ms = 60_000;
        let plan = plan(&room, &policy, &held);
        let mut task = room.sandbox.launch(&plan).unwrap();
        tokio::select! {
            () = asked(&site, "/hold") => {}
            end = task.ended() => panic!("{end:?}"),
        }
        // While the first still has it all.
        let nothing = async |when: &str| {
            site.forget();
            let (said, _) = open(&room, &policy, &see()).await.done();
            assert_eq!(said.trim(), "||||0", "{who:?} {when}");
            let cookies = site.asked().iter().any(|head| head.to_lowercase().contains("\ncookie:"));
            assert!(!cookies, "{who:?} {when}");
        };
        let serving = async {
            nothing("at the same time").await;
        };
        tokio::select! {
            () = serving => {}
            end = task.ended() => panic!("{end:?}"),
        }
        assert!(plan.tmp.path().join("profile").exists(), "the control: it kept something");
        assert_eq!(task.clean_up().await.survivors, 0);
        nothing("after").await;
        let download = action(&site.url("/file"), BrowserResult::Download(pb::BrowserDownload {}));
        let came = open(&room, &policy, &download).await;
        assert_eq!(came.out, b"\x00\xffbytes", "{:?}", came.told);
        assert_eq!(came.done().1.file.as_deref(), Some("x.bin"));
        // Not a file of all these browsers is left where tasks can write.
        let left: Vec<_> =
            std::fs::read_dir(&room.root).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left, [] as [PathBuf; 0], "{who:?}");
    }
}

#[tokio::test]
async fn documents_come_from_the_owners_origins_only_whoever_leads_to_them() {
    let other = Site::new(&[("/", page("other")), ("/img", page("img"))]);
    let site = Site::new(&[
        (
            "/",
            page(&format!(
                "<p>page</p><iframe src='{0}'></iframe><img src='{0}img' onerror='document.body.append(1)'>",
                other.url("/")
            )),
        ),
        ("/away", (format!("location: {}\r\n", other.url("/")), Vec::new())),
    ]);
    for who in everybody() {
        let room = Room::new(who).await;
        // The network lists both; only one may give documents.
        let policy = policy_of(&[host(&site), host(&other)], &[host(&site)], "");
        let (said, told) = open(&room, &policy, &action(&site.url("/"), text())).await.done();
        assert!(said.contains("page") && told.refused.len() == 1, "{said} {told:?}");
        assert!(other.heard_of("/img") && !other.heard_of("/"), "{who:?} {:?}", other.asked());
        let broken =
            open(&room, &policy, &action(&site.url("/away"), text())).await.failed("CX-1602");
        assert_eq!(broken.page.refused[0].url, other.url("/"));
        let later = with(action(&site.url("/"), text()), vec![goto(site.url("/away"))]);
        assert_eq!(open(&room, &policy, &later).await.failed("CX-1602").step, Some(1));
        assert!(!other.heard_of("/"), "{who:?}");
        other.forget();
    }
}

#[tokio::test]
async fn pages_that_do_not_end_are_ended() {
    let endless = |kind: &str, more: &str| {
        (format!("content-type: text/html\r\nx-endless: {kind}\r\n{more}"), b"<p>begun".to_vec())
    };
    let attachment = "content-disposition: attachment\r\n";
    let site = Site::new(&[
        ("/never", endless("yes", "")),
        ("/flood", endless("flood", "")),
        ("/alerts", page("<script>for (;;) alert('again')</script>")),
        ("/spin", page("<script>for (;;) {}</script>")),
        (
            "/windows",
            page("<p>page</p><script>for (let i = 0; i < 50; i++) window.open('/never')</script>"),
        ),
        ("/huge", endless("flood", &format!("{attachment}content-length: 10737418240\r\n"))),
        ("/huge-unsaid", endless("flood", attachment)),
        ("/unasked", page("<p>page</p><script>location = '/huge'</script>")),
    ]);
    for who in everybody() {
        let room = Room::new(who).await;
        let policy = policy(&[&site]);
        let quick = |path: &str| {
            let mut action = action(&site.url(path), text());
            action.step_timeout_ms = 2_500;
            action
        };
        for path in ["/never", "/flood", "/spin"] {
            open(&room, &policy, &quick(path)).await.failed("CX-1603");
        }
        let broken =
            open(&room, &policy, &action(&site.url("/alerts"), text())).await.failed("CX-1603");
        assert_eq!((broken.page.dialog_count, broken.page.dialogs.len()), (201, 32), "{who:?}");
        let (said, told) =
            open(&room, &policy, &action(&site.url("/windows"), text())).await.done();
        assert_eq!(said.trim(), "page", "{told:?}");
        assert!(!site.heard_of("/never?"), "{who:?}");
        let download = |path: &str| {
            let mut action =
                action(&site.url(path), BrowserResult::Download(pb::BrowserDownload {}));
            action.step_timeout_ms = 60_000;
            action
        };
        for path in ["/huge", "/huge-unsaid"] {
            open(&room, &policy, &download(path)).await.failed("CX-1608");
        }
        open(&room, &policy, &quick("/huge")).await.failed("CX-1607");
        let (said, told) = open(&room, &policy, &quick("/unasked")).await.done();
        assert_eq!((said.trim(), told.refused_count), ("page", 1), "{told:?}");
    }
}

#[tokio::test]
async fn a_browser_or_a_page_that_dies_is_told_at_once_and_leaves_nothing() {
    let site = Site::new(&[(
        "/",
        (
            "content-type: text/html\r\nx-endless: yes\r\n".to_owned(),
            b"<p>begun<img src=/shown>".to_vec(),
        ),
    )]);
    for who in everybody() {
        let room = Room::new(who).await;
        for whole in [true, false] {
            let mut action = action(&site.url("/"), text());
            action.step_timeout_ms = 600_000;
            let plan = plan(&room, &policy(&[&site]), &action);
            let mut task = room.sandbox.launch(&plan).unwrap();
            let (_, _, stderr) = task.streams();
            tokio::select! {
                () = asked(&site, "/shown") => {}
                end = task.ended() => panic!("{end:?}"),
            }
            let (main, pages) = processes(&plan);
            for pid in if whole { vec![main] } else { pages } {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                // One of them may be gone by itself.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
            let end = within("the end", task.ended()).await;
            let End::Status(status) = end else { panic!("{end:?}") };
            assert_eq!(status.code(), Some(13), "{who:?} {whole}");
            let mut said = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut stderr.unwrap(), &mut said).await.unwrap();
            assert!(said.contains("CX-1605"), "{said}");
            assert_eq!(task.clean_up().await.survivors, 0);
            assert!(!plan.tmp.path().exists());
            site.forget();
        }
    }
}
