package jobplan

// BalancedTarget is how large splits of files should be if nobody says.
var BalancedTarget = balancedTarget
