public import HTTPDelivery

/// Which custom headers an endpoint may have.
public enum HeaderRules {
    public static let countLimit = 32
    public static let valueLimitBytes = 4_096

    static let reserved: Set<String> = [
        "host", "connection", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade", "expect", "content-length",
        "content-encoding", "user-agent", "http2-settings", "forwarded", "content-type",
    ]
    static let reservedPrefixes = [
        "proxy-", "x-forwarded-", "webhook-", "x-amz-", "x-amzn-", "x-goog", "x-azure-", "x-fd-", "ce-", ":",
    ]

    /// Why the first bad header is refused; nil when all are fine.
    public static func firstRefusal(_ headers: [HTTPHeader]) -> String? {
        if headers.count > countLimit { return "\(headers.count) headers; at most \(countLimit) are allowed" }
        for header in headers {
            if let refusal = refusal(name: header.name, value: header.value) { return refusal }
        }
        return nil
    }

    static func refusal(name: String, value: String) -> String? {
        let lower = name.lowercased()
        let shown = String(String.UnicodeScalarView(name.unicodeScalars.filter { $0.value > 0x20 && $0.value < 0x7f })).prefix(64)
        if reserved.contains(lower) || reservedPrefixes.contains(where: { lower.hasPrefix($0) }) {
            return "the header '\(shown)' is reserved: it is set by the delivery itself or by proxies on the way"
        }
        // The name itself: lower case of some other letter may be an ASCII one.
        let tokens = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
        guard !name.isEmpty, name.utf8.allSatisfy(tokens.contains) else { return "'\(shown)' isn't a header name (RFC 9110 token)" }
        guard value.utf8.count <= valueLimitBytes else { return "the header '\(shown)' is longer than \(valueLimitBytes) bytes" }
        guard value.utf8.allSatisfy({ ($0 >= 0x20 || $0 == 0x09) && $0 != 0x7f }) else {
            return "the header '\(shown)' contains a control byte"
        }
        return nil
    }
}
