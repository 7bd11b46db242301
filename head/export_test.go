package head

import "google.golang.org/grpc"

// Services returns what the head's server serves.
func (h *Head) Services() map[string]grpc.ServiceInfo { return h.grpc.GetServiceInfo() }
