public import HTTPDelivery
internal import JSON

/// Access tokens of a lane's endpoints: one request at a time for each, however many deliveries wait for it.
///
/// | a token is | a delivery | becomes |
/// |---|---|---|
/// | absent | waits, and the token is asked for | asked for |
/// | asked for | waits | held, or absent: then all that wait fail with the token endpoint's failure |
/// | held | goes out with it | renewed in the last tenth of its life (30 s at least), absent when that is over, or the receiver answered 401 |
/// | renewed | goes out with the old one | held |
///
/// Times are monotonic milliseconds. Tokens are kept by `TokenRequest.identity`: with other credentials, or for another endpoint, one is asked
/// for anew.
public struct AccessTokens {
    public enum Answer: Sendable, Equatable {
        case bearer(String, renew: Bool)
        /// `ask`: nobody has asked yet.
        case wait(ask: Bool)
    }

    private struct Entry {
        var token: String?
        var expires: Int64 = 0
        var renewAt: Int64 = 0
        var isAsked = false
        var waiters: [UInt64] = []

        mutating func ask(_ waiter: UInt64, now: Int64) -> Answer {
            if let token, now < expires {
                let renews = now >= renewAt && !isAsked
                if renews { isAsked = true }
                return .bearer(token, renew: renews)
            }
            waiters.append(waiter)
            defer { isAsked = true }
            return .wait(ask: !isAsked)
        }
    }

    /// A token whose answer doesn't say for how long it is valid.
    static let defaultLifeSeconds: Int64 = 300
    static let renewalMilliseconds: Int64 = 30_000
    /// What is read of the answer.
    public static let answerLimitBytes = 32_768
    private var entries: [[UInt8]: Entry] = [:]
    static let entryLimit = 10_000
    /// After a renewal that failed.
    static let renewalPauseMilliseconds: Int64 = 5_000

    public init() {}

    public mutating func ask(_ identity: [UInt8], waiter: UInt64, now: Int64) -> Answer {
        if entries.count >= Self.entryLimit, entries[identity] == nil {
            entries = entries.filter { $0.value.isAsked || $0.value.expires > now }
        }
        return entries[identity, default: Entry()].ask(waiter, now: now)
    }

    /// The token endpoint's answer. Returns who waited for it, and why they can't go on; nil: they ask again, and get the token.
    public mutating func answered(_ identity: [UInt8], _ result: HTTPResult, now: Int64) -> (
        waiters: [UInt64], failure: (ErrorClass, String)?
    ) {
        guard var entry = entries[identity], entry.isAsked else { return ([], nil) }
        let waiters = entry.waiters
        (entry.isAsked, entry.waiters) = (false, [])
        entry.renewAt = max(entry.renewAt, now + Self.renewalPauseMilliseconds)
        defer { entries[identity] = entry }
        if let error = result.error { return (waiters, (error.kind, "the token endpoint: \(error.text)")) }
        guard let status = result.status, (200..<300).contains(status) else {
            return (waiters, (.status, "the token endpoint answered \(result.status.map { String($0) } ?? "nothing")"))
        }
        guard let json = try? JSONValue.parse(result.excerpt), let token = json["access_token"]?.stringValue, !token.isEmpty,
            token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f })
        else { return (waiters, (.protocol, "the token endpoint's answer has no access_token")) }
        // What it says isn't repeated: it may be anything, a secret that it was sent for instance.
        if let type = json["token_type"]?.stringValue, type.lowercased() != "bearer" {
            return (waiters, (.protocol, "the token endpoint gave a token of another type than Bearer"))
        }
        let seconds = json["expires_in"]?.intValue.map { Int64($0) } ?? json["expires_in"]?.stringValue.flatMap { Int64($0) }
        let life = min(max(1, seconds ?? Self.defaultLifeSeconds), 365 * 86_400) * 1_000
        (entry.token, entry.expires) = (token, now + life)
        entry.renewAt = now + max(life - max(Self.renewalMilliseconds, life / 10), life / 2)
        return (waiters, nil)
    }

    /// The receiver doesn't take `bearer` any more. An answer that comes late says nothing of the token that has replaced it.
    public mutating func refused(_ identity: [UInt8], _ bearer: String) {
        if entries[identity]?.token == bearer { entries[identity]?.token = nil }
    }
}
