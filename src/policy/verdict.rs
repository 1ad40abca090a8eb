//! Verdicts: what was decided, by which policies, and what they ask for in return.

/// How rules begin that are a person's decisions.
const OPERATOR: &str = "operator-";

/// What becomes of a record here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Kept and answered from.
    Accept,
    /// Kept aside for a person.
    Hold,
    /// Not answered from.
    Refuse,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(match self {
            Self::Accept => "accepted",
            Self::Hold => "held",
            Self::Refuse => "refused",
        })
    }
}

/// A verdict with the policies that made it and what they ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Ids of the deciding policies; empty when no policy permits it.
    pub policies: Vec<String>,
    /// Their @reason sentences, in the same order.
    pub reasons: Vec<String>,
    /// The strictest @confidence_cap among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_cap: Option<u8>,
    /// The strictest @expires_in_days among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
}

impl Judgement {
    /// A judgement that charter, form or a person made, not a policy.
    pub fn by_rule(verdict: Verdict, rule: &str, reason: impl Into<String>) -> Self {
        let (policies, reasons) = (vec![format!("rule:{rule}")], vec![reason.into()]);
        Self { verdict, policies, reasons, confidence_cap: None, expires_in_days: None }
    }

    /// A judgement of a person at this node.
    pub fn by_person(verdict: Verdict, operator: &str, reason: impl Into<String>) -> Self {
        Self::by_rule(verdict, &format!("{OPERATOR}{operator}"), reason)
    }

    /// Whether a person made it.
    pub fn by_operator(&self) -> bool {
        self.policies.first().is_some_and(|id| id.strip_prefix("rule:").is_some_and(|rule| rule.starts_with(OPERATOR)))
    }

    /// One sentence for people.
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.verdict, because(&self.policies, &self.reasons))
    }
}

/// Whether something may be served to a member, or enforced at an outlet, and which policies say so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Permission {
    pub permitted: bool,
    pub policies: Vec<String>,
    pub reasons: Vec<String>,
}

impl Permission {
    /// A refusal that no policy made.
    pub fn refused(rule: &str, reason: impl Into<String>) -> Self {
        Self { permitted: false, policies: vec![format!("rule:{rule}")], reasons: vec![reason.into()] }
    }

    /// Why, for people.
    pub fn because(&self) -> String {
        because(&self.policies, &self.reasons)
    }
}

fn because(policies: &[String], reasons: &[String]) -> String {
    if policies.is_empty() {
        return "no policy permits it".to_owned();
    }
    let one = |(id, reason): (&String, &String)| match reason.as_str() {
        "" => format!("policy `{id}`"),
        reason => format!("{reason} (policy `{id}`)"),
    };
    policies.iter().zip(reasons).map(one).collect::<Vec<_>>().join("; ")
}
