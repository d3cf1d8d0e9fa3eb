"""Learning: from logged engagement to rewards, from rewards to a candidate, and past the gate."""
