/// Which dead letters are meant. Every condition that is given must hold; an empty one holds for all.
public struct LetterFilter: Sendable {
    public var tenants: Set<String> = []
    public var endpoints: Set<String> = []
    public var types: [TypePattern] = []
    public var reasons: Set<String> = []
    /// Of the last answer.
    public var statuses: Set<Int> = []
    /// When it died, Unix milliseconds: from, and below.
    public var since: Int64?
    public var until: Int64?
    /// Delivery, poison or message ids.
    public var ids: Set<String> = []

    public init() {}

    public func matches(_ letter: StoredLetter) -> Bool {
        if !ids.isEmpty, !ids.contains(letter.id) {
            guard let delivery = letter.delivery, ids.contains(delivery.messageID) else { return false }
        }
        if let since, letter.diedMilliseconds < since { return false }
        if let until, letter.diedMilliseconds >= until { return false }
        return holds(reasons, letter.reason) && holds(endpoints, letter.delivery?.endpointID) && holds(tenants, letter.tenant)
            && holds(statuses, letter.delivery?.lastStatus)
            && (types.isEmpty || letter.type.map { type in types.contains { $0.matches(type) } } ?? false)
    }

    private func holds<Value>(_ wanted: Set<Value>, _ value: Value?) -> Bool {
        wanted.isEmpty || value.map { wanted.contains($0) } ?? false
    }
}
