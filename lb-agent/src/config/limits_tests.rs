//! Limits and access lists as they are read and refused.

use super::tests::{MINIMAL, error, read, warnings, with_service};
use crate::pure::model::ServiceLimits;

#[test]
fn limits_and_access_lists_are_read_with_their_defaults() {
    let text = format!(
        "{MINIMAL}max_connections = 7\n[service.limits]\nnew_flows = 5000\nnew_flows_per_source = 50\nsource_prefix_v4 = 24\n\
         max_connections = 100\n[service.access]\nallow = [\"10.0.0.0/8\", \"192.0.2.7\"]\ndeny = [\"10.9.0.0/16\"]\n"
    );
    let (config, warnings) = read(&text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let service = &config.services[0];
    assert_eq!(service.backends[0].max_connections, Some(7));
    let limits = service.limits;
    assert_eq!((limits.new_flows, limits.new_flows_per_source, limits.max_connections), (5_000, 50, 100));
    assert_eq!((limits.source_prefix_v4, limits.source_prefix_v6), (24, 64));
    assert_eq!(service.access.allow[1].to_string(), "192.0.2.7/32");
    let (config, _) = read(MINIMAL).unwrap();
    assert_eq!((config.services[0].limits, config.services[0].access.is_open()), (ServiceLimits::default(), true));
}

#[test]
fn limits_that_cannot_hold_are_refused_with_the_reason() {
    for (service, sections, wanted) in [
        ("tracking = \"minimal\"", "[service.limits]\nnew_flows = 5", "limits.new_flows: needs tracking = \"full\""),
        ("tracking = \"none\"", "max_connections = 5", "needs tracking = \"full\": only the flow table knows"),
        ("", "[service.limits]\nsource_prefix_v4 = 24", "means nothing without new_flows_per_source"),
        ("", "[service.limits]\nnew_flows_per_source = 200000", "wanted a number, 0 to 100000"),
        ("", "[service.limits]\nnew_flow = 5", "Did you mean \"new_flows\"?"),
        ("", "[service.access]\nallow = [\"10.0.0.1/8\"]", "bits beyond its length; wanted 10.0.0.0/8"),
        ("", "[service.access]\nallow = [\"ten\"]", "wanted a list of networks"),
        ("", "[service.access]\nallow = [\"10.0.0.0/8\", \"10.0.0.0/8\"]", "twice"),
        ("", "[service.access]\ndeny = [\"2001:db8::/32\"]", "not of one family"),
        ("", "[service.access]\nallow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]", "allowed and denied"),
    ] {
        let found = error(&format!("{}{sections}\n", with_service(service)));
        assert!(found.contains(wanted), "{sections}: {found}");
    }
}

#[test]
fn a_source_that_may_take_the_whole_budget_is_warned_of() {
    let text = format!("{MINIMAL}[service.limits]\nnew_flows = 5\nnew_flows_per_source = 50\n");
    assert!(warnings(&text)[0].contains("one source can spend it alone"));
}
