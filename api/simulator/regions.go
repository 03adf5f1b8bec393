package simulator

// regions are those of aws in which a service can be created.
const regions = "ap-northeast-1, ap-northeast-2, ap-south-1, ap-southeast-1, ap-southeast-2, ca-central-1, " +
	"eu-central-1, eu-west-1, eu-west-2, us-east-1, us-east-2, us-west-2"

// utcOffset returns how many hours a region is ahead of UTC, which decides when it is busy.
func utcOffset(region string) float64 {
	switch region {
	case "ap-northeast-1", "ap-northeast-2":
		return 9
	case "ap-south-1":
		return 5.5
	case "ap-southeast-1":
		return 8
	case "ap-southeast-2":
		return 10
	case "eu-central-1", "europe-west4":
		return 1
	case "ca-central-1", "us-east-1", "us-east-2":
		return -5
	case "us-central1":
		return -6
	case "us-west-2":
		return -8
	default:
		return 0
	}
}
