public import JSON

extension Endpoint {
    /// For people's eyes: besides the secrets, the queries of URLs and the values of fields that this version doesn't know are hidden.
    public func shown(only: String? = nil) -> JSONValue {
        let hidden = Set(unknown.map(\.name))
        let members = (json(revealSecrets: false, only: only).members ?? []).map { member -> JSONValue.Member in
            if hidden.contains(member.name) { return .init(member.name, "***") }
            switch member.name {
            case "url": return .init("url", .string(Self.withoutQuery(url)))
            case "auth":
                let parts = member.value.members?.map { part -> JSONValue.Member in
                    guard part.name == "tokenUrl", let url = part.value.stringValue else { return part }
                    return .init(part.name, .string(Self.withoutQuery(url)))
                }
                return .init("auth", parts.map { .object($0) } ?? member.value)
            default: return member
            }
        }
        return .object(members)
    }

    private static func withoutQuery(_ url: String) -> String { url.firstIndex(of: "?").map { url[...$0] + "***" } ?? url }

    /// Field by field, as lines for people's eyes: what `shown` hides isn't shown, only that it changed. Secrets aren't compared.
    public func differences(from old: Endpoint) -> [String] {
        var lines: [String] = []
        let skipped: Set<String> = ["createdMs", "updatedMs", "version", "secrets", "v"]
        let (before, after) = (old.shown(), shown())
        for name in (before.members ?? []).map(\.name) + (after.members ?? []).map(\.name).filter({ before[$0] == nil })
        where !skipped.contains(name) {
            if before[name] != after[name] { lines.append("\(name): \(before[name]?.text ?? "-") → \(after[name]?.text ?? "-")") }
        }
        if old.url != url, before["url"] == after["url"] { lines.append("url: its query changed") }
        for field in unknown where before[field.name] == "***" && old.unknown.first(where: { $0.name == field.name }) != field {
            lines.append("\(field.name): changed")
        }
        if old.auth != auth, before["auth"] == after["auth"] { lines.append("auth: changed") }
        if old.headers != headers, before["headers"] == after["headers"] { lines.append("headers: values changed") }
        return lines
    }
}
