//! `docker-compose.yml`: its services' own commands, as processes on a real nats-server. What only a container engine can show (images,
//! volumes, the balancer) is not shown here.

use crate::support::run::{self, Running};
use crate::support::{Agent, Nats, Server, wait};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What the services run: `command:` or `entrypoint:`, each one line of JSON.
fn services() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(checkout().join("docker-compose.yml")).unwrap();
    let (_, services) = text.split_once("\nservices:\n").unwrap();
    let (mut found, mut service) = (BTreeMap::new(), String::new());
    for line in services.lines().take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let name = line.strip_prefix("  ").and_then(|l| l.strip_suffix(':'));
        if let Some(name) = name.filter(|name| !name.starts_with(' ')) {
            service = name.to_owned();
        }
        let runs = ["    command: ", "    entrypoint: "].iter().find_map(|p| line.strip_prefix(p));
        if let Some(runs) = runs {
            found.insert(service.clone(), serde_json::from_str(runs).unwrap());
        }
    }
    found
}

/// A service's arguments, with this test's places for those of the containers.
fn placed(arguments: &[String], nats: &Nats, authority: &Path) -> Vec<String> {
    let place = |argument: &String| match argument.as_str() {
        "nats://nats:4222" => nats.url(),
        "0.0.0.0:7400" => "127.0.0.1:0".to_owned(),
        other => other.replace("/authority", authority.to_str().unwrap()),
    };
    arguments.iter().map(place).collect()
}

#[test]
fn the_services_of_the_compose_file_are_one_cortex() {
    let services = services();
    let home = Server::prepare(&[]);
    let nats = Nats::start(home.path("nats"));
    let authority = home.path("authority");
    let arguments = |service: &str| placed(&services[service], &nats, &authority);

    // The keys are made once.
    let make = || {
        let entry = arguments("authority");
        let programs = run::binary().parent().unwrap().to_owned();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let ended = Command::new(&entry[0]).args(&entry[1..]).env("PATH", path).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        std::fs::read(authority.join("ca.pem")).unwrap()
    };
    assert_eq!(make(), make());

    let start = |service: &str| {
        let mut command = run::command(&home.path(service));
        command.args(arguments(service)).env("CORTEX_LOG", "info");
        Running::start(command, b"")
    };
    let gateways = ["gateway-1", "gateway-2"].map(|service| {
        let arguments = arguments(service);
        let mut gateway = Server::prepare(&[]).into_gateway(&nats.url(), &authority);
        assert_eq!(arguments[0], "gateway");
        let flags: Vec<&str> = arguments[1..].iter().map(String::as_str).collect();
        gateway.set_args(&flags);
        gateway.launch();
        gateway.until_ready();
        gateway
    });
    let mut others = ["scheduler-1", "scheduler-2", "mirror"].map(start);
    others.iter_mut().for_each(|process| process.until_it_says("is running"));
    for gateway in &gateways {
        // Its health check.
        gateway.cortex(&["whoami"]).ok();
    }
    let _agent = Agent::join(&gateways[0], "n1", &[]);
    assert_eq!(gateways[1].run(&["echo", "composed"]).ok().text(), "composed\n");
    wait::until("the mirror to countersign", || {
        let node = gateways[1].cortex(&["node", "show", "n1", "--json"]).ok().json();
        (node["audit"]["cosigned_size"].as_u64()? > 0).then_some(())
    });
}

#[test]
fn the_configuration_of_nats_is_one_and_acknowledges_what_is_on_disk() {
    let file = checkout().join("deploy/nats.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("sync_interval: always"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("nats.conf");
    std::fs::write(&copy, text.replace("/data", dir.path().to_str().unwrap())).unwrap();
    let checked =
        Command::new(crate::support::nats::binary()).arg("-t").arg("-c").arg(copy).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{checked:?}");
}
