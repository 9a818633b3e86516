package main

// reasonText explains a decision's reason.
func reasonText(reason string) string {
	switch reason {
	case "intention":
		return "an intention matches the source"
	case "permission":
		return "a permission of the matching intention matches the request"
	case "default_action":
		return "no intention (or permission) matches, so the default action applies"
	case "request_required":
		return "the matching intention has permissions, which are judged by request"
	case "policy_stale":
		return "upstream has not confirmed the policy for longer than the daemon allows; see connectd status"
	case "not_ready":
		return "the policy has not arrived yet; see connectd status"
	case "foreign_trust_domain":
		return "the source belongs to another trust domain than the one in connectd bundle"
	case "invalid_source":
		return "the source is not the SPIFFE ID of a Consul service"
	case "ambiguous_request":
		return "the path means different things to different servers; send it in its plain form"
	case "unsupported":
		return "the matching intention demands something that connectd cannot judge"
	}
	return "this program does not know the word; use one of the daemon's release"
}
