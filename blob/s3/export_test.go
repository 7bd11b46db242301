package s3

// Combine is exported for tests.
var Combine = combine
