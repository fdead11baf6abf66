use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::file::parse;
use super::{Config, Environment, PacketLog, Warning, XdpMode};
use crate::pure::model::{Forward, OnDown, ProbeKind, Select, Tracking};

pub(super) const MINIMAL: &str = r#"
[[interface]]
name = "eth0"
[[service]]
name = "llm"
vip = "203.0.113.10"
port = 8000
[[service.backend]]
address = "10.0.0.11"
"#;

pub(super) fn read(text: &str) -> Result<(Config, Vec<Warning>), Vec<String>> {
    let read = parse(text, Path::new("weir.toml"), &Environment::default());
    read.map_err(|errors| errors.errors.iter().map(ToString::to_string).collect())
}

fn errors(text: &str) -> Vec<String> {
    read(text).expect_err("the text is wrong")
}

/// The one error of a text that has one.
pub(super) fn error(text: &str) -> String {
    let mut all = errors(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

pub(super) fn warnings(text: &str) -> Vec<String> {
    read(text).expect("the text is right").1.iter().map(ToString::to_string).collect()
}

/// `MINIMAL` with fields added to its service, before the backend.
pub(super) fn with_service(fields: &str) -> String {
    MINIMAL.replace("port = 8000\n", &format!("port = 8000\n{fields}\n"))
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let (config, warnings) = read(MINIMAL).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.agent.api, Path::new("/run/weir/agent.sock"));
    assert_eq!(config.agent.metrics, Some(([127, 0, 0, 1], 9180).into()));
    assert_eq!(config.agent.flow_table_entries, 1_000_000);
    assert_eq!(config.agent.packet_log, PacketLog::Off);
    assert_eq!(config.interfaces[0].mode, XdpMode::Auto);
    let service = &config.services[0];
    assert_eq!((service.forward, service.select, service.tracking), (Forward::Nat, Select::Maglev, Tracking::Full));
    assert_eq!((service.backends[0].addr.port(), service.backends[0].weight), (8000, 100));
    assert_eq!((service.health.kind.clone(), service.health.on_down), (ProbeKind::Tcp, OnDown::Auto));
    assert_eq!((service.health.rise.get(), service.health.fall.get()), (2, 3));
    assert_eq!((service.health.interval.as_millis(), service.health.timeout.as_millis()), (1000, 500));
    let times = service.timeouts;
    assert_eq!([times.syn, times.idle, times.fin, times.udp].map(|t| t.as_secs()), [5, 900, 10, 30]);
    assert_eq!(service.drain_timeout, Duration::from_secs(300));
    assert_eq!((service.snat_ports.0.get(), service.snat_ports.1.get()), (1024, 32_767));
}

#[test]
fn the_contract_of_the_design_is_read_as_it_stands() {
    let text = r#"
        [agent]
        api       = "unix:/run/weir/agent.sock"
        metrics   = "off"
        state_dir = "/var/lib/weir"
        pin_dir   = "/sys/fs/bpf/weir"
        flow_table_entries = 1000000
        [[interface]]
        name = "eth0"
        mode = "auto"
        [[service]]
        name     = "llm"
        vip      = "203.0.113.10"
        port     = 8000
        protocol = "tcp"
        forward  = "nat"
        snat     = false
        select   = "least_conn"
        tracking = "full"
        [[service.backend]]
        address = "10.0.0.11"
        port    = 8000
        weight  = 100
        [service.health]
        kind = "http"
        path = "/health"
        interval = "1s"
        timeout  = "500ms"
        rise = 2
        fall = 3
        panic = "50%"
        slow_start = "30s"
        on_down = "auto"
        [service.timeouts]
        idle = "15m"
        [service.drain]
        timeout = "5m"
    "#;
    let (config, warnings) = read(text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.agent.metrics, None);
    let health = &config.services[0].health;
    assert_eq!((health.panic_percent, health.slow_start), (50, Duration::from_secs(30)));
    let ProbeKind::Http(probe) = &health.kind else { panic!("{health:?}") };
    assert_eq!((probe.path.as_str(), probe.status_first, probe.status_last), ("/health", 200, 399));
}

#[test]
fn an_error_names_file_line_field_what_was_found_and_what_is_wanted() {
    let text = with_service("[service.health]\ninterval = 1\nfall = 0\n[[service.nothing]]");
    assert_eq!(
        errors(&text),
        [
            "weir.toml:9: service \"llm\".health.interval: found 1, wanted a duration in quotes, such as \"500ms\", \"1s\" or \
             \"15m\"",
            "weir.toml:10: service \"llm\".health.fall: found 0, wanted a number, 1 to 255",
            "weir.toml:11: service \"llm\".nothing: unknown field. Allowed here: name, vip, port, protocol, forward, snat, \
             snat_addresses, snat_ports, encap_source, gue_port, select, tracking, backend, quic, health, timeouts, drain, \
              limits, access, autoscale",
        ]
    );
}

#[test]
fn an_unknown_field_gets_the_likely_one_and_the_list() {
    let message = error(&with_service("selct = \"maglev\""));
    assert!(message.starts_with(
        "weir.toml:8: service \"llm\".selct: unknown field. Did you mean \"select\"? Allowed here: name,"
    ));
    let message = error("[agnet]\n[[interface]]\nname = \"eth0\"");
    assert_eq!(
        message,
        "weir.toml:1: agnet: unknown field. Did you mean \"agent\"? Allowed here: agent, interface, service"
    );
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_lines() {
    let text = "[agent]\nmetrics = \"here\"\n[[interface]]\nname = \"eth0\"\nmode = \"fast\"\n[[service]]\nname = \"a\"\n\
                vip = \"nowhere\"\nport = 70000\nprotocol = \"sctp\"\n";
    let lines: Vec<_> = errors(text).iter().map(|e| e.split(':').nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["2", "5", "8", "9", "10"]);
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let message = errors("[agent]\napi = unix\n").remove(0);
    assert!(message.starts_with("weir.toml:2: not TOML: "), "{message}");
}

#[test]
fn missing_fields_are_named() {
    let all = errors("[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"llm\"\n");
    assert_eq!(
        all[0],
        "weir.toml:3: service \"llm\".vip: is missing, wanted an IPv4 or IPv6 address or prefix in quotes"
    );
    assert_eq!(all[1], "weir.toml:3: service \"llm\".port: is missing, wanted a number, 0 to 65535");
    assert!(error("[[service]]\nname=\"a\"\nvip=\"192.0.2.1\"\nport=1\n").contains("interface: there is none"));
}

#[test]
fn tables_in_the_wrong_shape_are_told_how_to_be_written() {
    assert!(errors("[interface]\nname = \"eth0\"\n")[0].contains("found a section, wanted sections: [[interface]]"));
    assert!(error(&with_service("drain = \"5m\"")).contains("found \"5m\", wanted a section: [drain]"));
}

#[test]
fn what_is_not_in_this_version_is_refused_in_one_sentence() {
    assert_eq!(
        error(&with_service("[service.autoscale]\nprovider = \"docker\"")),
        "weir.toml:8: service \"llm\".autoscale: autoscale is not available in this version; remove the section"
    );
}

/// A second service beside the first.
fn with_second(fields: &str, backend: &str) -> String {
    format!(
        "{MINIMAL}[[service]]\nname = \"two\"\nvip = \"203.0.113.11\"\nport = 9000\n{fields}\n[[service.backend]]\n{backend}\n"
    )
}

#[test]
fn names_and_keys_are_unique() {
    let text = with_second("", "address = \"10.0.0.12\"").replace("\"two\"", "\"llm\"");
    assert!(error(&text).contains("another service is called \"llm\" too"));
    let text =
        with_second("", "address = \"10.0.0.12\"").replace("203.0.113.11", "203.0.113.10").replace("9000", "8000");
    let message = error(&text);
    assert!(message.contains("203.0.113.10 port 8000/tcp is taken by service \"llm\""), "{message}");
    assert!(message.starts_with("weir.toml:12: "), "{message}");
    let udp = with_second("protocol = \"udp\"\nhealth = { kind = \"none\" }", "address = \"10.0.0.12\"");
    assert!(read(&udp.replace("203.0.113.11", "203.0.113.10").replace("9000", "8000")).is_ok());
}

#[test]
fn two_nat_services_on_one_backend_need_snat() {
    let shared = "address = \"10.0.0.11\"\nport = 8000";
    let message = error(&with_second("", shared));
    assert!(message.contains("10.0.0.11:8000/tcp serves service \"llm\" as well"), "{message}");
    assert!(message.contains("snat = true"), "{message}");
    assert!(read(&with_second("snat = true", shared)).is_ok());
    assert!(read(&with_second("", "address = \"10.0.0.11\"\nport = 8001")).is_ok());
    assert!(read(&with_second("protocol = \"udp\"", shared)).is_ok());
    let every_port = with_second("health = { port = 80 }", "address = \"10.0.0.11\"").replace("9000", "0");
    assert!(error(&every_port).contains("as well"), "a service on every port meets each port");
}

#[test]
fn families_of_vip_backends_and_snat_addresses_agree() {
    let message = error(&with_second("", "address = \"2001:db8::1\""));
    assert!(message.contains("2001:db8::1 and the VIP 203.0.113.11 are not of one family"), "{message}");
    let message = error(&with_service("snat = true\nsnat_addresses = [\"2001:db8::9\"]"));
    assert!(message.contains("snat_addresses: 2001:db8::9 and the VIP"), "{message}");
}

#[test]
fn l2dsr_changes_no_port_and_knows_no_snat() {
    let message = error(&with_second("forward = \"l2dsr\"", "address = \"10.0.0.12\"\nport = 9001"));
    assert!(message.contains("backend #1.port: found 9001, wanted the service's port 9000"), "{message}");
    let message = error(&with_second("forward = \"l2dsr\"\nsnat = true", "address = \"10.0.0.12\""));
    assert!(message.contains("goes with forward = \"nat\" only"), "{message}");
}

#[test]
fn a_service_on_every_port_keeps_ports_and_says_what_to_probe() {
    let every_port = |fields: &str, port: &str| {
        let backend = format!("address = \"10.0.0.12\"\n{port}");
        with_second(fields, &backend).replace("9000", "0")
    };
    assert!(error(&every_port("", "")).contains("say which one to probe (health.port), or kind = \"none\""));
    assert!(read(&every_port("health = { kind = \"none\" }", "")).is_ok());
    assert!(read(&every_port("health = { port = 80 }", "port = 0")).is_ok());
    assert!(error(&every_port("health = { port = 80 }", "port = 80")).contains("the client's port is kept; remove it"));
    assert!(error(&with_second("", "address = \"10.0.0.12\"\nport = 0")).contains("found 0, wanted a port"));
}

#[test]
fn a_vip_is_nobodys_own_address() {
    let message = error(&with_second("", "address = \"203.0.113.10\""));
    assert!(message.contains("203.0.113.10 is the VIP of service \"llm\""), "{message}");
    let message = error(&with_service("snat = true\nsnat_addresses = [\"203.0.113.10\"]"));
    assert!(message.contains("203.0.113.10 is a VIP"), "{message}");
}

#[test]
fn snat_ports_keep_away_from_the_hosts_own() {
    let message = error(&with_service("snat = true\nsnat_ports = \"32000-40000\""));
    assert!(message.contains("ports 32000-40000 overlap"), "{message}");
    assert!(message.contains("ip_local_port_range = 32768 60999); use ports within 1024-32767"), "{message}");
    assert!(read(&with_service("snat = true\nsnat_ports = \"61000-65535\"")).is_ok());
    assert!(error(&with_service("snat_ports = \"61000-65535\"")).contains("means nothing without snat = true"));
}

#[test]
fn snat_on_a_host_without_a_free_port_says_what_to_do() {
    let full = Environment { local_ports: 1024..=65_535, reserved_ports: Vec::new() };
    let path = Path::new("weir.toml");
    let errors = parse(&with_service("snat = true"), path, &full).unwrap_err();
    assert!(errors.to_string().contains("net.ipv4.ip_local_reserved_ports"), "{errors}");
    assert!(parse(MINIMAL, path, &full).is_ok(), "without snat it does not matter");
}

#[test]
fn selection_and_tracking_go_together() {
    for (fields, needs) in [
        ("select = \"round_robin\"\ntracking = \"minimal\"", "select = \"round_robin\" needs"),
        ("select = \"least_conn\"\ntracking = \"none\"", "select = \"least_conn\" needs"),
        ("snat = true\ntracking = \"minimal\"", "snat = true needs"),
    ] {
        let message = error(&with_service(fields));
        assert!(message.contains(needs) && message.contains("tracking = \"full\""), "{message}");
    }
    assert!(read(&with_service("select = \"source_hash\"\ntracking = \"minimal\"")).is_ok());
}

#[test]
fn fields_of_another_kind_of_probe_are_refused() {
    let message = error(&with_service("[service.health]\npath = \"/health\""));
    assert_eq!(
        message,
        "weir.toml:9: service \"llm\".health.path: means nothing here: only kind http and https has it"
    );
    assert!(error(&with_service("[service.health]\nkind = \"http\"\ntls_insecure = true")).contains("only kind https"));
    assert!(read(&with_service("[service.health]\nkind = \"https\"\ntls_insecure = false")).is_ok());
    assert!(read(&with_service("[service.health]\nkind = \"grpc\"\ngrpc_service = \"x.Y\"")).is_ok());
    assert!(error(&with_service("[service.health]\nkind = \"http\"\npath = \"health\"")).contains("starts with /"));
    assert!(error(&with_service("[service.health]\nkind = \"http\"\nhost = \"a b\"")).contains("wanted a host"));
    let headers = "[service.health]\nkind = \"http\"\nheaders = { \"X-Probe\" = \"weir\" }";
    assert!(read(&with_service(headers)).is_ok());
    assert!(error(&with_service(&headers.replace("X-Probe", "X Probe"))).contains("wanted headers"));
}

#[test]
fn timeouts_have_bounds_that_the_flow_table_can_keep() {
    assert!(error(&with_service("[service.timeouts]\nidle = \"2h\"")).contains("found \"2h\", wanted 1s to 1h"));
    assert!(error(&with_service("[service.timeouts]\nsyn = \"10ms\"")).contains("wanted 1s to 1h"));
}

#[test]
fn what_works_but_is_hardly_meant_is_a_warning() {
    let text = with_service("").replace("address = \"10.0.0.11\"", "address = \"10.0.0.11\"\nweight = 0");
    assert_eq!(warnings(&text), ["weir.toml:4: service \"llm\": every backend has weight 0: no new flow is served"]);
    assert!(
        warnings(&with_service("[service.health]\ntimeout = \"2s\""))[0]
            .contains("2s is longer than the interval (1s)")
    );
    let (config, udp) = read(&with_service("protocol = \"udp\"")).unwrap();
    assert!(udp[0].message.contains("a udp service has no health check"));
    assert_eq!(config.services[0].health.kind, ProbeKind::None);
    let empty = MINIMAL.replace("[[service.backend]]\naddress = \"10.0.0.11\"\n", "");
    assert!(warnings(&empty)[0].contains("has no backend"));
}

#[test]
fn duplicates_within_a_pool_and_among_interfaces_are_refused() {
    let text = format!("{MINIMAL}[[service.backend]]\naddress = \"10.0.0.11\"\nport = 8000\n");
    assert!(error(&text).contains("backend #2: 10.0.0.11:8000 is in this pool twice"));
    let text = format!("{MINIMAL}[[interface]]\nname = \"eth0\"\n");
    assert!(error(&text).contains("interface #2.name: \"eth0\" is listed twice"));
}

#[test]
fn more_than_a_host_has_room_for_is_refused() {
    let mut text = "[[interface]]\nname = \"eth0\"\n".to_owned();
    for n in 0..1025 {
        let (high, low) = (n / 256, n % 256);
        write!(text, "[[service]]\nname = \"s{n}\"\nvip = \"203.0.{high}.{low}\"\nport = 80\n").unwrap();
    }
    assert!(error(&text).contains("there are 1025; one host has room for 1024"));
    let mut text = MINIMAL.to_owned();
    for n in 0..5000 {
        write!(text, "[[service.backend]]\naddress = \"10.1.{}.{}\"\n", n / 256, n % 256).unwrap();
    }
    assert!(error(&text).contains("5002 different VIPs and addresses of nat backends; one host has room for 4096"));
}

#[test]
fn a_file_that_is_not_there_says_what_to_do() {
    let error = super::load(Path::new("/nonexistent/weir.toml"), &Environment::default()).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/weir.toml: cannot read the configuration: "), "{error}");
    assert!(error.contains("--config"), "{error}");
}

#[test]
fn the_api_socket_is_found_in_a_file_that_is_otherwise_wrong() {
    let path = std::env::temp_dir().join(format!("weir-api-socket-{}.toml", std::process::id()));
    std::fs::write(&path, "[agent]\napi = \"unix:/run/other.sock\"\nwhat = \n[[service]\n").unwrap();
    let socket = super::api_socket(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(socket, Path::new("/run/other.sock"));
    assert_eq!(super::api_socket(&path), Path::new(super::DEFAULT_API));
}
