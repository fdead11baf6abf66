//! Access lists change without a gap: whatever the old list and the new one agree on holds after every single operation.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use lb_common::service::SERVICE_ACCESS;
use proptest::prelude::*;

use super::*;
use crate::pure::limits::access;
use crate::pure::model::Access;
use crate::pure::tables::Endpoint;
use crate::pure::tables::rule_of;
use crate::pure::testing::spec;

/// Networks over four bits, so that lists often meet.
fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let network = (0_u8..16, 0_u8..=4).prop_map(|(bits, len)| {
        let net = Ipv4Net::new(Ipv4Addr::new(bits << 4, 0, 0, 0), len).expect("at most 32 bits");
        IpNet::from(net.trunc())
    });
    proptest::collection::vec(network, 0..6)
}

fn list() -> impl Strategy<Value = Access> {
    (networks(), networks()).prop_map(|(allow, deny)| {
        let deny = deny.into_iter().filter(|net| !allow.contains(net)).collect();
        Access { allow, deny }
    })
}

fn tables(list: &Access) -> Tables {
    let mut spec = spec("llm", &[11]);
    spec.access = list.clone();
    let flags = crate::pure::limits::flags(&spec);
    let entry = lb_common::service::ServiceEntry { id: 3, flags, ..Default::default() };
    let key: Endpoint = crate::pure::desired::endpoint(&spec.key);
    Tables { services: [(key, entry)].into(), access: access(3, &spec), ..Tables::default() }
}

/// What the packet path does with a source.
fn is_let_in(tables: &Tables, source: Ipv4Addr) -> bool {
    let has_list = tables.services.values().any(|service| service.flags & SERVICE_ACCESS != 0);
    !has_list || rule_of(&tables.access, 3, source.into()).is_none_or(|(_, rule)| rule != 0)
}

proptest! {
    #[test]
    fn what_both_lists_agree_on_holds_at_every_prefix_of_the_plan(old in list(), new in list()) {
        let (mut now, then) = (tables(&old), tables(&new));
        let sources: Vec<_> = (0..16_u8).map(|bits| Ipv4Addr::new(bits << 4, 0, 0, 1)).collect();
        let before: Vec<_> = sources.iter().map(|source| is_let_in(&now, *source)).collect();
        let after: Vec<_> = sources.iter().map(|source| is_let_in(&then, *source)).collect();
        for op in plan(&now.clone(), &then, RingChanges::new(), |_| None) {
            note(&op, &mut now);
            for ((source, before), after) in sources.iter().zip(&before).zip(&after) {
                if before == after {
                    prop_assert_eq!(is_let_in(&now, *source), *after, "{} after {:?}", source, op);
                }
            }
        }
        prop_assert_eq!(now, then);
    }
}
