//! The planner: from a prompt to a plan.
