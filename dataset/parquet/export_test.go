package parquet

// PoisonPools makes the writers' memory be overwritten when it is freed.
func PoisonPools(on bool) { poisonPools = on }
