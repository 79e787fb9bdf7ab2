internal import Cryptography

/// Unix milliseconds to and from the texts that the field uses.
public enum Timestamp {
    /// RFC 3339, UTC, milliseconds: `2026-11-21T10:52:00.123Z`.
    public static func text(milliseconds: Int64) -> String {
        var out: [UInt8] = []
        append(milliseconds: milliseconds, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    /// The same as UTF-8.
    static func append(milliseconds: Int64, to out: inout [UInt8]) {
        let days = milliseconds.quotient(by: 86_400_000)
        let inDay = milliseconds - days * 86_400_000
        let (year, month, day) = civil(days)
        out.append(addingCapacity: 44) { out in
            func two(_ value: Int64, _ out: inout OutputSpan<UInt8>) {
                out.append(48 + UInt8(truncatingIfNeeded: value / 10))
                out.append(48 + UInt8(truncatingIfNeeded: value % 10))
            }
            if (0...9_999).contains(year) {
                two(year / 100, &out)
                two(year % 100, &out)
            } else {
                Decimal.with(Int(year)) { digits in for index in digits.indices { out.append(digits[index]) } }
            }
            out.append(UInt8(ascii: "-"))
            two(month, &out)
            out.append(UInt8(ascii: "-"))
            two(day, &out)
            out.append(UInt8(ascii: "T"))
            two(inDay / 3_600_000, &out)
            out.append(UInt8(ascii: ":"))
            two(inDay / 60_000 % 60, &out)
            out.append(UInt8(ascii: ":"))
            two(inDay / 1_000 % 60, &out)
            out.append(UInt8(ascii: "."))
            out.append(48 + UInt8(truncatingIfNeeded: inDay % 1_000 / 100))
            two(inDay % 100, &out)
            out.append(UInt8(ascii: "Z"))
        }
    }

    /// An HTTP date (RFC 9110, the preferred form): `Sun, 06 Nov 1994 08:49:37 GMT` → Unix milliseconds.
    public static func httpDate(_ text: String) -> Int64? {
        let parts = text.split(separator: " ")
        guard parts.count == 6, parts[0].hasSuffix(","), parts[5] == "GMT" else { return nil }
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let time = parts[4].split(separator: ":").map { $0.utf8.count == 2 ? Int64($0) : nil }
        guard let day = Int64(parts[1]), (1...31).contains(day), let month = months.firstIndex(of: String(parts[2])),
            let year = Int64(parts[3]),
            (1970...9999).contains(year), time.count == 3, let hour = time[0], let minute = time[1], let second = time[2],
            (0..<24).contains(hour), (0..<60).contains(minute), (0...60).contains(second)
        else { return nil }
        return (days(year, Int64(month) + 1, day) * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000
    }

    /// RFC 3339 with `Z` or an offset, seconds and fractions optional; or a date alone, its midnight in UTC. nil for anything else.
    public static func milliseconds(_ text: String) -> Int64? {
        let halves = text.split(separator: "T", maxSplits: 1, omittingEmptySubsequences: false)
        let date = numbers(halves[0], "-", [4, 2, 2])
        guard let date, (1970...9999).contains(date[0]), (1...12).contains(date[1]), (1...31).contains(date[2]) else { return nil }
        let day = days(date[0], date[1], date[2])
        let (_, month, dayOfMonth) = civil(day)
        guard month == date[1], dayOfMonth == date[2] else { return nil }
        guard halves.count == 2 else { return day * 86_400_000 }
        var clock = halves[1]
        var offset: Int64 = 0
        if clock.hasSuffix("Z") {
            clock = clock.dropLast()
        } else {
            guard let sign = clock.lastIndex(where: { $0 == "+" || $0 == "-" }),
                let zone = numbers(clock[clock.index(after: sign)...], ":", [2, 2]), zone[0] < 24, zone[1] < 60
            else { return nil }
            offset = (zone[0] * 60 + zone[1]) * (clock[sign] == "-" ? -60_000 : 60_000)
            clock = clock[..<sign]
        }
        let parts = clock.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard let time = numbers(parts[0], ":", [2, 2, 2]) ?? numbers(parts[0], ":", [2, 2]).map({ $0 + [0] }),
            time[0] < 24, time[1] < 60, time[2] <= 60
        else { return nil }
        var fraction: Int64 = 0
        if parts.count == 2 {
            guard (1...9).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ $0 &- 48 < 10 }) else { return nil }
            fraction = Int64((parts[1] + "00").prefix(3)) ?? 0
        }
        return day * 86_400_000 + ((time[0] * 60 + time[1]) * 60 + time[2]) * 1_000 + fraction - offset
    }

    /// Groups of as many digits each as `widths` says.
    private static func numbers(_ text: Substring, _ separator: Character, _ widths: [Int]) -> [Int64]? {
        let parts = text.split(separator: separator, omittingEmptySubsequences: false)
        guard parts.map(\.utf8.count) == widths, parts.allSatisfy({ $0.utf8.allSatisfy { $0 &- 48 < 10 } }) else { return nil }
        return parts.compactMap { Int64($0) }
    }

    // Days since 1970-01-01 and back, over 400-year eras that start on 1 March.
    static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let y = month <= 2 ? year - 1 : year
        let era = y.quotient(by: 400)
        let yearOfEra = y - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    static func civil(_ days: Int64) -> (Int64, Int64, Int64) {
        let z = days + 719_468
        let era = z.quotient(by: 146_097)
        let dayOfEra = z - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
    }
}

extension Int64 {
    /// Division that rounds down, also below zero.
    fileprivate func quotient(by divisor: Int64) -> Int64 { self >= 0 ? self / divisor : (self - divisor + 1) / divisor }
}
