/// The values of a command's flags and where each came from. Flags go over environment, environment over file, file over default.
public struct Arguments: Sendable {
    public enum Origin: Sendable, Equatable, CustomStringConvertible {
        case flag, environment(String), file(String), builtIn

        public var description: String {
            switch self {
            case .flag: "flag"
            case .environment(let name): "environment \(name)"
            case .file(let path): "file \(path)"
            case .builtIn: "default"
            }
        }
    }

    public var command: Command
    public var positionals: [String]
    public var values: [String: [String]]
    public var origins: [String: Origin]
    public init(command: Command, positionals: [String] = [], values: [String: [String]] = [:], origins: [String: Origin] = [:]) {
        (self.command, self.positionals, self.values, self.origins) = (command, positionals, values, origins)
    }

    public func list(_ name: String) -> [String] { values[name] ?? [] }
    public func text(_ name: String) -> String? { values[name]?.last }
    public func isOn(_ name: String) -> Bool { text(name) == "true" }
    /// Whether a user gave it, by whatever source.
    public func isGiven(_ name: String) -> Bool { (origins[name] ?? .builtIn) != .builtIn }

    public func required(_ name: String) throws(UsageError) -> String {
        guard let value = text(name), !value.isEmpty else {
            throw UsageError(
                "--\(name) is missing",
                hint: "give --\(name), set \(CommandLineParser.environmentName(name)), or put '\(name):' into the file")
        }
        return value
    }

    public func integer(_ name: String, in range: ClosedRange<Int>) throws(UsageError) -> Int? {
        guard let text = text(name) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw bad(name, text, "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    public func fraction(_ name: String) throws(UsageError) -> Double? {
        guard let text = text(name) else { return nil }
        guard let value = Double(text), (0...1).contains(value) else { throw bad(name, text, "a fraction from 0 to 1") }
        return value
    }

    public func milliseconds(_ name: String) throws(UsageError) -> Int64? {
        guard let text = text(name) else { return nil }
        guard let value = Quantity.milliseconds(text) else { throw bad(name, text, "a duration such as 500ms, 10s, 5m, 2h or 7d") }
        return value
    }

    public func bad(_ name: String, _ text: String, _ expected: String) -> UsageError {
        let place = origins[name].map { $0 == .flag ? "" : " (from \($0))" } ?? ""
        return UsageError("--\(name): '\(text)' isn't \(expected)\(place)")
    }
}

/// Durations and rates as people write them.
public enum Quantity {
    public static func milliseconds(_ text: String) -> Int64? {
        let units: [(String, Int64)] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
        for (unit, scale) in units where text.hasSuffix(unit) {
            let digits = text.dropLast(unit.count)
            guard !digits.isEmpty, digits.utf8.allSatisfy({ $0 &- 48 < 10 }), let number = Int64(digits) else { continue }
            let (product, overflow) = number.multipliedReportingOverflow(by: scale)
            return overflow ? nil : product
        }
        return nil
    }

    /// `90000` → `90s`, `300000` → `5m`: the largest unit that divides it.
    public static func text(milliseconds: Int64) -> String {
        for (unit, scale) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] as [(String, Int64)]
        where milliseconds != 0 && milliseconds % scale == 0 { return "\(milliseconds / scale)\(unit)" }
        return "\(milliseconds)ms"
    }
}
