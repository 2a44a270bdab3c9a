package api

// KindOfJSON names the kind of a decoded JSON value the way a user would, for messages: "a list", "empty", "missing".
func KindOfJSON(value any) string {
	switch v := value.(type) {
	case nil:
		return "missing"
	case string:
		if v == "" {
			return "empty"
		}
		return "a string"
	case bool:
		return "a boolean"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	default:
		return "a number"
	}
}
