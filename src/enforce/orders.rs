//! Orders: what operators decided about enforcement. Each stands in the journal; together they make [`Orders`].

use crate::record::{MemberId, Observable, ObservableType, Timestamp};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Most values that are unblocked or forced at a time: more is a matter for a list or a policy.
pub const EXCEPTIONS_MAX: usize = 100_000;

/// Whether lines act or are only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What would have been enforced is counted and shown.
    #[default]
    Monitor,
    Enforce,
}

/// What is stopped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    All,
    Origin(MemberId),
    Outlet(String),
}

impl std::fmt::Display for Scope {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => out.write_str("everything"),
            Self::Origin(origin) => write!(out, "what {origin} says"),
            Self::Outlet(outlet) => write!(out, "outlet `{outlet}`"),
        }
    }
}

/// One thing that an operator decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Nothing that hits this value is enforced.
    Unblock {
        value: String,
        reason: String,
        until: Timestamp,
    },
    /// The above is taken back.
    Reblock {
        value: String,
    },
    Stop {
        scope: Scope,
        reason: String,
    },
    Resume {
        scope: Scope,
    },
    /// At most so many additions of an origin an hour.
    Throttle {
        origin: MemberId,
        per_hour: u32,
        reason: String,
    },
    Unthrottle {
        origin: MemberId,
    },
    /// An outlet, or an origin at an outlet, acts or is only watched. To let an origin act approves its baseline.
    Mode {
        outlet: String,
        origin: Option<MemberId>,
        mode: Mode,
    },
    /// What is staged of an origin at an outlet is enforced at once.
    Admit {
        outlet: String,
        origin: MemberId,
    },
    /// An outlet goes back to its export of this serial: what entered later waits. What was taken back meanwhile stays out.
    Rollback {
        outlet: String,
        serial: u64,
        /// When it was written.
        written: Timestamp,
        reason: String,
    },
    /// The above is over.
    Forward {
        outlet: String,
    },
    /// Two people: a protected value may be enforced.
    Force {
        value: String,
        reason: String,
        until: Timestamp,
    },
    Unforce {
        value: String,
    },
    /// Lines whose withdrawal came before this order stay in force at an outlet, or at all of them.
    Keep {
        origin: MemberId,
        outlet: Option<String>,
        reason: String,
        until: Timestamp,
    },
    Unkeep {
        origin: MemberId,
        outlet: Option<String>,
    },
    /// We looked at a dispute about a record of ours, and stand by the record.
    Dismiss {
        sighting: String,
        reason: String,
    },
}

/// An order as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEntry {
    pub at: Timestamp,
    /// Who decided: one operator, or two joined by `+`.
    pub by: String,
    pub order: Order,
}

/// An exception for one value, as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
    pub until: Timestamp,
}

/// All orders, applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Orders {
    pub unblocked: BTreeMap<String, Exception>,
    pub forced: BTreeMap<String, Exception>,
    #[serde(skip)]
    pub stopped: BTreeMap<Scope, (Timestamp, String, String)>,
    pub throttled: BTreeMap<MemberId, u32>,
    #[serde(skip)]
    modes: BTreeMap<(String, Option<MemberId>), Mode>,
    /// Outlets that went back, and to which serial.
    #[serde(skip)]
    pub rolled_back: BTreeMap<String, (u64, Timestamp)>,
    pub dismissed: BTreeSet<String>,
    /// Withdrawn lines that stay in force, by origin and outlet (all outlets, if none is named).
    #[serde(skip)]
    kept: BTreeMap<(MemberId, Option<String>), Exception>,
}

impl Orders {
    /// Takes one more order into account.
    pub fn apply(&mut self, entry: &OrderEntry) {
        let OrderEntry { at, by, order } = entry;
        let exception = |reason: &String, until: &Timestamp| Exception { at: *at, by: by.clone(), reason: reason.clone(), until: *until };
        match order {
            Order::Unblock { value, reason, until } => put(&mut self.unblocked, value, exception(reason, until)),
            Order::Reblock { value } => drop(self.unblocked.remove(value)),
            Order::Force { value, reason, until } => put(&mut self.forced, value, exception(reason, until)),
            Order::Unforce { value } => drop(self.forced.remove(value)),
            Order::Stop { scope, reason } => drop(self.stopped.insert(scope.clone(), (*at, by.clone(), reason.clone()))),
            Order::Resume { scope } => drop(self.stopped.remove(scope)),
            Order::Throttle { origin, per_hour, .. } => drop(self.throttled.insert(origin.clone(), *per_hour)),
            Order::Unthrottle { origin } => drop(self.throttled.remove(origin)),
            Order::Mode { outlet, origin, mode } => drop(self.modes.insert((outlet.clone(), origin.clone()), *mode)),
            Order::Rollback { outlet, serial, written, .. } => drop(self.rolled_back.insert(outlet.clone(), (*serial, *written))),
            Order::Forward { outlet } => drop(self.rolled_back.remove(outlet)),
            Order::Keep { origin, outlet, reason, until } => {
                drop(self.kept.insert((origin.clone(), outlet.clone()), exception(reason, until)));
            }
            Order::Unkeep { origin, outlet } => self.kept.retain(|(kept, at), _| kept != origin || (outlet.is_some() && at != outlet)),
            Order::Dismiss { sighting, .. } => drop(self.dismissed.insert(sighting.clone())),
            // Carried out once, by whoever holds the lines; nothing of it stays.
            Order::Admit { .. } => (),
        }
    }

    /// How an outlet is run; it begins in monitor mode.
    pub fn outlet_mode(&self, outlet: &str) -> Mode {
        self.modes.get(&(outlet.to_owned(), None)).copied().unwrap_or_default()
    }

    /// How an origin is treated at an outlet; it begins in monitor mode.
    pub fn origin_mode(&self, outlet: &str, origin: &MemberId) -> Mode {
        self.modes.get(&(outlet.to_owned(), Some(origin.clone()))).copied().unwrap_or_default()
    }

    /// Whether nothing at an outlet is to be enforced, and by which order.
    pub fn outlet_stopped(&self, outlet: &str) -> Option<&Scope> {
        self.stopped.keys().find(|scope| match scope {
            Scope::All => true,
            Scope::Outlet(name) => name == outlet,
            Scope::Origin(_) => false,
        })
    }

    /// The order that keeps lines of `origin` in force at `outlet`, although a withdrawal that came at `withdrawn` took them out.
    pub fn keeps(&self, outlet: &str, origin: &MemberId, withdrawn: Timestamp, now: Timestamp) -> Option<&Exception> {
        let at = |outlet: Option<&str>| self.kept.get(&(origin.clone(), outlet.map(str::to_owned)));
        [at(Some(outlet)), at(None)].into_iter().flatten().find(|one| withdrawn <= one.at && one.until > now)
    }

    /// Whether what an origin says is stopped everywhere.
    pub fn origin_stopped(&self, origin: &MemberId) -> bool {
        self.stopped.contains_key(&Scope::Origin(origin.clone()))
    }

    /// Whether two people force a protected value, now.
    pub fn is_forced(&self, value: &Observable, now: Timestamp) -> bool {
        !self.forced.is_empty() && self.forced.get(&value.to_string()).is_some_and(|one| one.until > now)
    }

    /// The exception that keeps a line from being enforced: of the line's own value, of one that the line would hit, or of the host on
    /// which the line's value stands.
    pub fn unblocks(&self, line: &Observable, below: bool, now: Timestamp) -> Option<(&str, &Exception)> {
        let live = || self.unblocked.iter().filter(|(_, one)| one.until > now);
        // The common case first: thousands of lines, a handful of exceptions.
        live()
            .find(|(value, _)| Observable::recognise(value).is_ok_and(|value| lifts(&value, line, below)))
            .map(|(value, one)| (value.as_str(), one))
    }

    /// What is ordered about exactly this value, a sentence each.
    pub fn about(&self, value: &Observable) -> Vec<String> {
        let value = value.to_string();
        let said = |what: &'static str, one: &Exception| format!("{what} by {} at {} until {}: {}", one.by, one.at, one.until, one.reason);
        let unblocked = self.unblocked.get(&value).map(|one| said("unblocked", one));
        unblocked.into_iter().chain(self.forced.get(&value).map(|one| said("forced", one))).collect()
    }

    /// Drops what is over, so that nothing grows for ever. Answers the values that it was about.
    pub fn expire(&mut self, now: Timestamp) -> Vec<String> {
        let mut over = Vec::new();
        self.kept.retain(|_, one| one.until > now);
        for exceptions in [&mut self.unblocked, &mut self.forced] {
            over.extend(exceptions.iter().filter(|(_, one)| one.until <= now).map(|(value, _)| value.clone()));
            exceptions.retain(|_, one| one.until > now);
        }
        over
    }

    /// Whether there is room for one more exception.
    pub fn has_room(&self) -> bool {
        self.unblocked.len().max(self.forced.len()) < EXCEPTIONS_MAX
    }
}

fn put(exceptions: &mut BTreeMap<String, Exception>, value: &str, exception: Exception) {
    if exceptions.len() < EXCEPTIONS_MAX || exceptions.contains_key(value) {
        exceptions.insert(value.to_owned(), exception);
    }
}

/// Whether a line that is enforced would hit `value`: itself, a network around it or its host, its host's name, a domain
/// above that.
pub fn hits(line: &Observable, below: bool, value: &Observable) -> bool {
    if line == value {
        return true;
    }
    if let Some(net) = line.network() {
        return value.network().or_else(|| host_address(value)).is_some_and(|other| net.contains(&other));
    }
    match (line.kind(), line.text(), value.host()) {
        (ObservableType::Domain, Some(name), Some(host)) => {
            host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || (below && rest.ends_with('.')))
        }
        _ => false,
    }
}

/// Returns true for a line that an exception for `value` takes out: one that hits it, and a URL, endpoint or e-mail address on exactly
/// that name or address.
pub fn lifts(value: &Observable, line: &Observable, below: bool) -> bool {
    hits(line, below, value) || is_on(line, value)
}

/// Returns true for a URL, endpoint or e-mail address whose host is this name or address.
fn is_on(line: &Observable, host: &Observable) -> bool {
    use ObservableType as T;
    if !matches!(line.kind(), T::Url | T::Endpoint | T::Email) {
        return false;
    }
    match host.kind() {
        T::Domain => line.host().as_deref() == host.text(),
        T::Ipv4 | T::Ipv6 | T::Cidr => host.network().zip(host_address(line)).is_some_and(|(net, address)| net.contains(&address)),
        _ => false,
    }
}

/// The address on which a URL or endpoint stands, if it stands on one.
pub(super) fn host_address(value: &Observable) -> Option<IpNet> {
    value.host()?.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(IpNet::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Observable {
        Observable::recognise(text).unwrap()
    }

    #[test]
    fn a_line_hits_itself_and_what_it_covers_and_nothing_else() {
        let hits = |line: &str, below, text: &str| hits(&value(line), below, &value(text));
        assert!(hits("evil.example", false, "EVIL[.]example."));
        assert!(!hits("evil.example", false, "www.evil.example"));
        assert!(hits("evil.example", true, "www.evil.example"));
        assert!(hits("evil.example", false, "http://evil.example/x"));
        assert!(hits("evil.example", true, "http://www.evil.example/x"));
        let lifts = |text: &str, line: &str| lifts(&value(text), &value(line), false);
        assert!(lifts("agency.example", "http://agency.example./a") && lifts("192.0.2.10", "tcp://[::ffff:192.0.2.10]:4444/n13"));
        assert!(lifts("agency.example", "agency.example:443") && lifts("192.0.2.0/24", "http://192.0.2.10/x"));
        assert!(!lifts("agency.example", "http://www.agency.example/a") && !lifts("http://agency.example/a", "http://agency.example/b"));
        assert!(!hits("evil.example", true, "notevil.example"));
        assert!(hits("192.0.2.0/24", false, "192.0.2.7"));
        assert!(hits("192.0.2.0/24", false, "http://192.0.2.7/x"));
        assert!(!hits("192.0.2.7", false, "192.0.2.0/24"));
        assert!(!hits("http://evil.example/x", false, "evil.example"));
    }

    #[test]
    fn what_is_ordered_holds_until_it_is_taken_back_or_over() {
        let at = |ms| Timestamp::from_ms(ms).unwrap();
        let mut orders = Orders::default();
        let say = |orders: &mut Orders, order| orders.apply(&OrderEntry { at: at(1), by: "ana".to_owned(), order });
        let unblock = Order::Unblock { value: "www.evil.example".to_owned(), reason: "hospital".to_owned(), until: at(100) };
        say(&mut orders, unblock);
        assert_eq!(orders.unblocks(&value("evil.example"), true, at(50)).unwrap().1.reason, "hospital");
        assert!(orders.unblocks(&value("evil.example"), true, at(100)).is_none());
        say(&mut orders, Order::Reblock { value: "www.evil.example".to_owned() });
        assert!(orders.unblocks(&value("evil.example"), true, at(50)).is_none());
        let talos: MemberId = "talos".parse().unwrap();
        say(&mut orders, Order::Stop { scope: Scope::Origin(talos.clone()), reason: String::new() });
        assert!(orders.origin_stopped(&talos) && orders.outlet_stopped("resolver").is_none());
        say(&mut orders, Order::Stop { scope: Scope::All, reason: String::new() });
        assert_eq!(orders.outlet_stopped("resolver"), Some(&Scope::All));
        say(&mut orders, Order::Resume { scope: Scope::All });
        assert!(orders.outlet_stopped("resolver").is_none());
        assert_eq!(orders.outlet_mode("resolver"), Mode::Monitor);
        say(&mut orders, Order::Mode { outlet: "resolver".to_owned(), origin: None, mode: Mode::Enforce });
        assert_eq!(orders.outlet_mode("resolver"), Mode::Enforce);
        assert_eq!(orders.origin_mode("resolver", &talos), Mode::Monitor);
    }
}
