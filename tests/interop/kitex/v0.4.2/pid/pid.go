package pid

func GetPid() int { return 0 }
