//! The conformance tables (`weir_tests::conformance`), one test each. `-- --nocapture` lists every case.

use std::collections::BTreeSet;

use weir_tests::conformance::{TABLES, run};

/// Cases that the suite must not fall below.
const AT_LEAST: usize = 200;

macro_rules! subjects {
    ($($subject:ident),* $(,)?) => {
        $(#[test]
        fn $subject() {
            let subject = stringify!($subject);
            let (_, cases) = TABLES.iter().find(|table| table.0 == subject).expect("a table of this subject");
            run(subject, cases());
        })*

        #[test]
        fn every_table_is_run_and_every_case_has_a_name_of_its_own() {
            let subjects: Vec<&str> = TABLES.iter().map(|table| table.0).collect();
            assert_eq!(subjects, [$(stringify!($subject)),*]);
            let mut names = BTreeSet::new();
            for case in TABLES.iter().flat_map(|table| table.1()) {
                let name = case.name().to_owned();
                assert!(names.insert(name.clone()), "two cases are called {name:?}");
            }
            println!("{} cases in {} tables", names.len(), subjects.len());
            assert!(names.len() >= AT_LEAST, "{} cases", names.len());
        }
    };
}

subjects! {
    ethernet,
    ipv4,
    ipv6,
    tcp,
    udp,
    checksums,
    fragments,
    icmp,
    icmpv6,
    icmp_errors,
    arp,
    neighbour_discovery,
    nat_replies,
    snat,
    hairpin,
    l2dsr,
    encapsulation,
    too_big,
    services,
    prefixes,
    quic,
    health_of_backends,
    malformed,
    not_ours,
    tc,
}
