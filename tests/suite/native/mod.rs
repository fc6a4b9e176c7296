//! What a factory is on a NATS server, for whoever lives there: services, and an agent.

mod services;
mod submitters;
