//! The replies on `$SRV` subjects, as in NATS ADR-32.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use serde::Serialize;

use super::service::{Endpoint, MicroService};

/// The common fields of all replies.
#[derive(Serialize)]
struct ServiceIdentity<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    id: &'a str,
    version: &'a str,
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ServiceInfo<'a> {
    #[serde(flatten)]
    identity: ServiceIdentity<'a>,
    description: &'a str,
    endpoints: Vec<EndpointInfo<'a>>,
}

#[derive(Serialize)]
struct EndpointInfo<'a> {
    name: &'a str,
    subject: &'a str,
    queue_group: &'a str,
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ServiceStats<'a> {
    #[serde(flatten)]
    identity: ServiceIdentity<'a>,
    started: String,
    endpoints: Vec<EndpointStats<'a>>,
}

/// Times are in nanoseconds.
#[derive(Serialize)]
struct EndpointStats<'a> {
    name: &'a str,
    subject: &'a str,
    queue_group: &'a str,
    num_requests: u64,
    num_errors: u64,
    last_error: String,
    processing_time: u64,
    average_processing_time: u64,
}

/// The discovery requests of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiscoveryVerb {
    Ping,
    Info,
    Stats,
}

impl DiscoveryVerb {
    pub(super) const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    /// The token in subjects.
    pub(super) const fn token(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }
}

impl MicroService {
    fn identity(&self, kind: &'static str) -> ServiceIdentity<'_> {
        ServiceIdentity {
            kind,
            name: &self.name,
            id: &self.id,
            version: self.version,
            metadata: (self.metadata)(),
        }
    }

    /// The reply to a request, as JSON.
    pub(super) fn answer(&self, verb: DiscoveryVerb) -> Result<Vec<u8>, serde_json::Error> {
        match verb {
            DiscoveryVerb::Ping => {
                serde_json::to_vec(&self.identity("io.nats.micro.v1.ping_response"))
            }
            DiscoveryVerb::Info => serde_json::to_vec(&ServiceInfo {
                identity: self.identity("io.nats.micro.v1.info_response"),
                description: &self.description,
                endpoints: self.endpoints.iter().map(|endpoint| endpoint.info()).collect(),
            }),
            DiscoveryVerb::Stats => serde_json::to_vec(&ServiceStats {
                identity: self.identity("io.nats.micro.v1.stats_response"),
                started: self.started.to_string(),
                endpoints: self.endpoints.iter().map(|endpoint| endpoint.stats()).collect(),
            }),
        }
    }
}

impl Endpoint {
    fn info(&self) -> EndpointInfo<'_> {
        EndpointInfo {
            name: &self.name,
            subject: self.subject.as_str(),
            queue_group: self.queue_group,
            metadata: (self.metadata)(),
        }
    }

    fn stats(&self) -> EndpointStats<'_> {
        let counts = &self.counts;
        let requests = counts.requests.load(Ordering::Relaxed);
        let nanoseconds = counts.nanoseconds.load(Ordering::Relaxed);
        EndpointStats {
            name: &self.name,
            subject: self.subject.as_str(),
            queue_group: self.queue_group,
            num_requests: requests,
            num_errors: counts.errors.load(Ordering::Relaxed),
            last_error: counts.last_error.lock().clone(),
            processing_time: nanoseconds,
            average_processing_time: nanoseconds.checked_div(requests).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ai_factory_schemas::{problem::Problem, time::Timestamp};
    use serde_json::{Value, json};

    use super::*;
    use crate::metadata;

    fn answer(service: &MicroService, verb: DiscoveryVerb) -> Value {
        serde_json::from_slice(&service.answer(verb).unwrap()).unwrap()
    }

    #[test]
    fn a_service_says_what_adr_32_asks_for() {
        let subject = "factory.planner.propose".parse().unwrap();
        let endpoint = Endpoint::new("propose", subject, "q", metadata([("schema", "{}")]));
        let service = MicroService {
            name: "ai-factory-planner".to_owned(),
            id: "7".to_owned(),
            version: "1.2.3",
            description: "Plans.".to_owned(),
            metadata: metadata([("node", "local")]),
            started: Timestamp::from_micros(1_780_000_000_000_000),
            endpoints: vec![std::sync::Arc::clone(&endpoint)],
        };
        let identity = json!({
            "type": "io.nats.micro.v1.ping_response", "name": "ai-factory-planner", "id": "7",
            "version": "1.2.3", "metadata": { "node": "local" },
        });
        assert_eq!(answer(&service, DiscoveryVerb::Ping), identity);
        let info = answer(&service, DiscoveryVerb::Info);
        assert_eq!(info["type"], "io.nats.micro.v1.info_response");
        assert_eq!(info["description"], "Plans.");
        let subject = "factory.planner.propose";
        assert_eq!(
            info["endpoints"],
            json!([{ "name": "propose", "subject": subject, "queue_group": "q", "metadata": { "schema": "{}" } }])
        );

        endpoint.count(None, Duration::from_micros(10));
        endpoint.count(Some(&Problem::not_found("gone")), Duration::from_micros(30));
        let stats = answer(&service, DiscoveryVerb::Stats);
        assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
        assert!(stats["started"].as_str().unwrap().ends_with('Z'), "{stats}");
        assert_eq!(
            stats["endpoints"],
            json!([{
                "name": "propose", "subject": subject, "queue_group": "q", "num_requests": 2, "num_errors": 1,
                "last_error": "404:gone", "processing_time": 40_000, "average_processing_time": 20_000,
            }])
        );
    }
}
