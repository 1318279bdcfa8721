//! Decisions about pages.

use super::*;

#[test]
fn pages_are_decided_by_their_origins_and_by_what_is_done_on_them() {
    check_table("browser.txt");
}

#[test]
fn a_policy_opens_a_browser_only_in_a_network_of_its_own_and_to_the_origins_it_lists() {
    let world = World::new();
    let policy = |browser: &str| {
        world.policy(&format!(
            "version = 1\nstrict = \"off\"\nprograms = {{ search = [] }}\npaths = {{}}\n\
             net.profiles = {{ web = {{ mode = \"domains\", allow = [\"a.example:443\"] }}, all = {{ mode = \"full\" }},\
             no = {{ mode = \"none\" }}, own = {{ mode = \"loopback\", ports = [3000] }} }}\n{browser}\n"
        ))
    };
    let table = |effect: &str, net: &str, origins: &str| {
        format!("browser = {{ effect = \"{effect}\", net = \"{net}\", origins = {origins} }}")
    };
    let open = "[\"https://a.example\"]";
    for (browser, expected, able) in [
        (String::new(), "deny CX-0401", false),
        (table("deny", "web", open), "deny CX-0401 rule=browser", false),
        (table("allow", "web", "[]"), "deny CX-1602 rule=browser", false),
        (table("allow", "web", open), "allow rule=browser.effect", true),
        (table("ask", "web", open), "ask CX-1201 rule=browser.effect", true),
        (
            table("allow", "own", "[\"http://localhost:3000\", \"https://a.example\"]"),
            "allow",
            true,
        ),
    ] {
        let policy = policy(&browser).unwrap();
        let line = format!("{expected} | browser.text https://a.example/x");
        assert_eq!(check(&world, &policy, &line), None, "{browser}");
        // Files are opened separately, and not by that.
        let line = "browser.download https://a.example/x";
        let (action, cwd) = request(line);
        assert_eq!(run(&world, &policy, action, &cwd).effect.word(), "deny", "{browser}");
        assert_eq!(policy.allows_browser(), able, "{browser}");
        let taken = narrow(
            &policy,
            &Narrowing::read("version = 1\nnetwork = \"none\"\n").unwrap().narrowing,
        );
        assert!(!taken.allows_browser());
        let (action, cwd) = request("browser.text https://a.example/x");
        assert_eq!(run(&world, &taken, action, &cwd).effect.word(), "deny", "{browser}");
    }
    for bad in [
        table("allow", "all", open),
        table("allow", "no", open),
        table("allow", "nobody", open),
        table("allow", "web", "[\"*\"]"),
        table("allow", "web", "[\"https://*\"]"),
        table("allow", "web", "[\"file:///\"]"),
        table("allow", "web", "[\"a.example\"]"),
        "browser = { effect = \"allow\", net = \"web\" }".to_owned(),
    ] {
        assert!(policy(&bad).is_err(), "{bad}");
    }
    let old = Policy::parse("version = 0", String::new()).unwrap();
    assert_eq!(check(&world, &old, "deny CX-0401 | browser.text https://a.example"), None);
}

#[test]
fn a_server_can_take_the_browser_away() {
    let world = World::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let policy =
        world.policy(&std::fs::read_to_string(folder.join("laptop.toml")).unwrap()).unwrap();
    let page = "browser.text https://docs.example.com/";
    assert_eq!(check(&world, &policy, &format!("allow | {page}")), None);
    for taken in
        ["deny = [\"browser\"]", "deny = [\"chromium\"]", "deny = [\"*\"]", "network = \"none\""]
    {
        let wish = Narrowing::read(&format!("version = 1\n{taken}\n")).unwrap().narrowing;
        let line = format!("deny CX-1007 | {page}");
        assert_eq!(check(&world, &narrow(&policy, &wish), &line), None, "{taken}");
    }
}

#[test]
fn a_browser_sees_nothing_of_its_owner_and_runs_in_the_whole_sandbox_or_not_at_all() {
    let mut world = World::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let policy =
        world.policy(&std::fs::read_to_string(folder.join("laptop.toml")).unwrap()).unwrap();
    let decide = |world: &World| {
        let (action, cwd) = request("browser.text https://docs.example.com/");
        run(world, &policy, action, &cwd)
    };
    let decision = decide(&world);
    let view = &process(&decision).unwrap().view;
    assert!(view.roots.is_empty() && view.write.is_empty() && view.read_only, "{view:?}");
    let sees =
        |path: &str| view.read.iter().any(|place| std::path::Path::new(path).starts_with(place));
    for path in [
        "/home/ada/.gitconfig",
        "/etc/passwd",
        "/etc/hosts",
        "/root",
        "/run/docker.sock",
        machine::ROOT,
    ] {
        assert!(!sees(path), "{path}: {view:?}");
    }
    assert!(sees("/usr/lib/chromium/chromium") && sees("/etc/fonts/fonts.conf"), "{view:?}");
    for level in [Level::Landlock, Level::None] {
        world.level = level;
        let code = decide(&world).fault.unwrap().code;
        assert_eq!(code, cortex_model::Code::SandboxUnavailable, "{level:?}");
    }
}

#[test]
fn an_answer_about_a_page_is_bound_to_every_step_and_shows_them() {
    let world = World::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let policy =
        world.policy(&std::fs::read_to_string(folder.join("laptop.toml")).unwrap()).unwrap();
    let of = |text: &str| {
        let (action, cwd) = request(text);
        let decision = run(&world, &policy, action, &cwd);
        let (proposal, none) = (decision.proposal.as_ref().unwrap(), &[]);
        let shown =
            cortex_agent_core::consent::show(proposal, &decision.classes, "t", "anna", none);
        (decision.fingerprint, shown.lines.join("\n"))
    };
    let page = "browser.text https://docs.example.com/";
    let (one, shown) = of(&format!("{page} 'secret #p = token' 'click #go'"));
    let (two, _) = of(&format!("{page} 'secret #p = token' 'click #other'"));
    assert_ne!(one, two);
    for line in ["secret #p = token", "click #go", "https://docs.example.com/", "goes to"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("s3cret-value"), "{shown}");
}
